//! A vector in shared pages: a clone costs one reference count, a change copies one page.

use std::sync::Arc;

/// Rows in a page. A change under a living clone copies as many pointers.
const ROWS_PER_PAGE: usize = 64;

/// A vector whose clones share their pages until one of them changes.
#[derive(Debug)]
pub(crate) struct Pages<T> {
    pages: Arc<Vec<Arc<Vec<T>>>>,
    len: usize,
}

impl<T> Clone for Pages<T> {
    fn clone(&self) -> Self {
        Self {
            pages: Arc::clone(&self.pages),
            len: self.len,
        }
    }
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self {
            pages: Arc::default(),
            len: 0,
        }
    }
}

impl<T: Clone> Pages<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, at: usize) -> Option<&T> {
        self.pages.get(at / ROWS_PER_PAGE)?.get(at % ROWS_PER_PAGE)
    }

    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        let page = Arc::make_mut(&mut self.pages).get_mut(at / ROWS_PER_PAGE)?;
        Arc::make_mut(page).get_mut(at % ROWS_PER_PAGE)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flat_map(|page| page.iter())
    }

    /// The rows from `at` on.
    pub(crate) fn iter_from(&self, at: usize) -> impl Iterator<Item = &T> {
        let whole = (at / ROWS_PER_PAGE).min(self.pages.len());
        let pages = self.pages[whole..].iter().flat_map(|page| page.iter());
        pages.skip(at - whole * ROWS_PER_PAGE)
    }

    pub(crate) fn push(&mut self, value: T) {
        let pages = Arc::make_mut(&mut self.pages);
        match pages.last_mut() {
            Some(last) if last.len() < ROWS_PER_PAGE => Arc::make_mut(last).push(value),
            _ => {
                let mut page = Vec::with_capacity(ROWS_PER_PAGE);
                page.push(value);
                pages.push(Arc::new(page));
            }
        }
        self.len += 1;
    }

    /// Takes row `at` out and moves the last row into its place.
    pub(crate) fn swap_remove(&mut self, at: usize) -> Option<T> {
        if at >= self.len {
            return None;
        }
        let pages = Arc::make_mut(&mut self.pages);
        let page = Arc::make_mut(pages.last_mut()?);
        let last = page.pop()?;
        if page.is_empty() {
            pages.pop();
        }
        self.len -= 1;
        if at == self.len {
            return Some(last);
        }
        self.get_mut(at).map(|slot| std::mem::replace(slot, last))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pages_do_what_a_vector_does_and_clones_stay_as_they_were(
            steps in proptest::collection::vec((0u8..3, 0usize..200), 0..300),
        ) {
            let (mut pages, mut plain) = (Pages::default(), Vec::new());
            let mut kept: Vec<(Pages<usize>, Vec<usize>)> = Vec::new();
            for (n, (what, at)) in steps.into_iter().enumerate() {
                match what {
                    0 => { pages.push(n); plain.push(n); }
                    1 if at < plain.len() => {
                        prop_assert_eq!(pages.swap_remove(at), Some(plain.swap_remove(at)));
                    }
                    _ => if let Some(slot) = plain.get_mut(at) {
                        *slot = n;
                        *pages.get_mut(at).unwrap() = n;
                    }
                }
                if n % 50 == 0 { kept.push((pages.clone(), plain.clone())); }
            }
            kept.push((pages, plain));
            for (pages, plain) in kept {
                prop_assert_eq!(pages.len(), plain.len());
                prop_assert_eq!(pages.iter().copied().collect::<Vec<_>>(), &plain[..]);
                for at in [0, 1, plain.len() / 2, plain.len()] {
                    let rest: Vec<usize> = pages.iter_from(at).copied().collect();
                    prop_assert_eq!(rest, plain.get(at..).unwrap_or(&[]));
                }
            }
        }
    }
}
