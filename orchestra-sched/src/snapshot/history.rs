//! Which rows changed when, so that what was learned from one snapshot serves the next.

use std::sync::Arc;

use super::NodeIx;
use super::pages::Pages;

/// The rows that changes touched, in order; the newest so many of them.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Who it belongs to: one builder and its snapshots.
    line: Arc<()>,
    /// How many changes came before `older`.
    forgotten: u64,
    older: Pages<u32>,
    newer: Pages<u32>,
    /// How many of the changes were to what a node is, or to which nodes there are.
    facts: u64,
}

/// A moment in the history of one builder.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    line: Arc<()>,
    changes: u64,
    facts: u64,
}

impl Clone for History {
    /// The same history, up to now. What changes there from now on is not told here.
    fn clone(&self) -> Self {
        Self {
            line: Arc::clone(&self.line),
            forgotten: self.forgotten,
            older: self.older.clone(),
            newer: self.newer.clone(),
            facts: self.facts,
        }
    }
}

impl History {
    /// Changes remembered at least, once there were as many.
    const KEPT: usize = 8_192;

    /// The node of row `node` is another, or is no more.
    pub(crate) fn note_facts(&mut self, node: NodeIx) {
        self.facts += 1;
        self.note(node);
    }

    /// Something changed that is no row's own.
    pub(crate) fn note_world(&mut self) {
        self.note_facts(NodeIx(u32::MAX));
    }

    /// What runs on row `node` is not what it was.
    pub(crate) fn note(&mut self, node: NodeIx) {
        if self.newer.len() == Self::KEPT {
            self.forgotten += self.older.len() as u64;
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.push(node.0);
    }

    /// Takes leave of whoever shares this history: from now on it is another's.
    pub(crate) fn part(&mut self) {
        self.line = Arc::default();
    }

    /// Now.
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            line: Arc::clone(&self.line),
            changes: self.changes(),
            facts: self.facts,
        }
    }

    /// The moment before the last change.
    pub(crate) fn mark_before_last(&self) -> Mark {
        Mark {
            changes: self.changes().saturating_sub(1),
            ..self.mark()
        }
    }

    /// The rows that changed since `mark`, one of them perhaps more than once; `None` if that is
    /// not known.
    pub(crate) fn since(&self, mark: &Mark) -> Option<impl Iterator<Item = NodeIx>> {
        let known = self.forgotten..=self.changes();
        if !Arc::ptr_eq(&self.line, &mark.line) || !known.contains(&mark.changes) {
            return None;
        }
        let from = (mark.changes - self.forgotten) as usize;
        let newer = from.saturating_sub(self.older.len());
        let changed = self
            .older
            .iter_from(from)
            .chain(self.newer.iter_from(newer));
        Some(changed.copied().map(NodeIx))
    }

    /// How many changes happened since `mark`; `None` if that is not known.
    pub(crate) fn count_since(&self, mark: &Mark) -> Option<usize> {
        let known = self.forgotten..=self.changes();
        (Arc::ptr_eq(&self.line, &mark.line) && known.contains(&mark.changes))
            .then(|| (self.changes() - mark.changes) as usize)
    }

    /// Whether the nodes are what they were at `mark`, a moment of the past.
    pub(crate) fn same_nodes(&self, mark: &Mark) -> bool {
        self.facts == mark.facts
    }

    fn changes(&self) -> u64 {
        self.forgotten + (self.older.len() + self.newer.len()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_since_is_known_for_a_while_and_to_one_line_only() {
        let mut history = History::default();
        let start = history.mark();
        for row in 0..10 {
            history.note(NodeIx(row));
        }
        let then = history.mark();
        let early = history.clone();
        for row in 10..History::KEPT as u32 + 5 {
            history.note(NodeIx(row));
        }
        let rows = |history: &History, mark: &Mark| -> Option<Vec<u32>> {
            Some(history.since(mark)?.map(|node| node.0).collect())
        };
        let all: Vec<u32> = (0..History::KEPT as u32 + 5).collect();
        assert_eq!(rows(&history, &start).as_deref(), Some(&all[..]));
        assert_eq!(rows(&history, &then).as_deref(), Some(&all[10..]));
        assert_eq!(rows(&history, &history.mark()).as_deref(), Some(&[][..]));
        assert_eq!(rows(&early, &history.mark()), None, "it has yet to happen");
        for row in 0..History::KEPT as u32 {
            history.note(NodeIx(row));
        }
        assert_eq!(rows(&history, &start), None, "forgotten");
        assert_eq!(rows(&early, &then).as_deref(), Some(&[][..]));
        let mut other = early.clone();
        other.part();
        assert_eq!(rows(&other, &then), None, "another's");
        assert_eq!(other.count_since(&then), None);
        assert_eq!(early.count_since(&start), Some(10));
    }
}
