//! What a listing shows.

use super::Kit;
use super::model::{Model, under};
use crate::conformance::{Finding, Stop, Suite, ensure, ensure_eq, fail};
use crate::port::store::{
    Key, ListRequest, Page, StateStore, StateStoreExt, StoreError, StoreErrorKind, Txn, Versioned,
    Write,
};

pub(super) async fn checks(suite: &mut Suite, kit: &Kit<'_>) {
    suite
        .check(
            "keys_are_ordered_by_their_bytes",
            "A key: UTF-8 text, ordered by its bytes. The items, ordered by key.",
            ordered(kit),
        )
        .await;
    suite
        .check(
            "a_prefix_is_text_and_nothing_else",
            "Keys that start with this. The empty prefix is a prefix of all.",
            prefixes(kit),
        )
        .await;
    suite
        .check(
            "every_page_of_one_listing_reads_at_the_same_revision",
            "Reads one page of a prefix. Every page of one listing reads at the same revision.",
            pages(kit),
        )
        .await;
    suite
        .check(
            "a_page_too_old_is_compacted_not_wrong",
            "A page that cannot be read at its revision any more fails with Compacted.",
            old_page(kit),
        )
        .await;
}

const AWKWARD: [&str; 16] = [
    "a", "a!", "a-", "a/", "a/b", "a/b/c", "a0", "aB", "aa", "ab", "a~", "b", "pods", "pods/a",
    "pods/a-1", "ß",
];

async fn ordered(kit: &Kit<'_>) -> Finding {
    let store = kit.store().await;
    // The last two trade places in an order by UTF-16 units.
    let mut keys: Vec<Key> = AWKWARD.iter().map(|key| Key::from(*key)).collect();
    keys.extend(["A", "Z", "\u{1}", "\u{7f}", "\u{ffee}", "\u{1f600}"].map(Key::from));
    for key in keys.iter().rev() {
        store.put(key.clone(), *b"1").await?;
    }
    keys.sort_by(|a, b| a.as_str().as_bytes().cmp(b.as_str().as_bytes()));
    let seen: Vec<_> = store
        .list(ListRequest::all(""))
        .await?
        .items
        .into_iter()
        .map(|item| item.key)
        .collect();
    ensure_eq("keys in order", seen, keys)
}

async fn prefixes(kit: &Kit<'_>) -> Finding {
    let store = kit.store().await;
    let more = [
        "pod", "pods/", "pods/ab", "pods0", "podz", "Pods/a", "xpods/a", "ßa", "þ",
    ];
    let keys: Vec<_> = AWKWARD.iter().chain(&more).copied().collect();
    for key in &keys {
        store.put((*key).into(), *b"1").await?;
    }
    for prefix in [
        "", "a", "a/", "a/b", "ab", "pod", "pods", "pods/", "pods/a", "c", "ß", "p",
    ] {
        let mut wanted: Vec<_> = keys.iter().filter(|key| key.starts_with(prefix)).collect();
        wanted.sort_unstable();
        let page = store.list(ListRequest::all(prefix)).await?;
        let seen: Vec<_> = page.items.iter().map(|item| item.key.as_str()).collect();
        let wanted: Vec<_> = wanted.into_iter().copied().collect();
        ensure_eq(&format!("keys under {prefix:?}"), seen, wanted)?;
        ensure_eq("where to go on when there is no more", page.next, None)?;
    }
    Ok(())
}

/// Reads the page behind `page`, checked by itself.
async fn page_after(
    store: &dyn StateStore,
    prefix: &str,
    limit: usize,
    page: &Page,
) -> Result<Result<Option<Page>, StoreError>, Stop> {
    let Some(from) = page.next.clone() else {
        return Ok(Ok(None));
    };
    let after = from.after.clone();
    let request = ListRequest {
        prefix: prefix.into(),
        limit,
        from: Some(from),
    };
    let page = match store.list(request).await {
        Ok(page) => page,
        Err(error) => return Ok(Err(error)),
    };
    ensure_behind(&after, &page)?;
    Ok(Ok(Some(page)))
}

/// A page that goes on behind `after` must lie behind it, or a listing never ends.
pub(super) fn ensure_behind(after: &Key, page: &Page) -> Finding {
    ensure(
        page.items.iter().all(|item| item.key > *after),
        format!("only keys behind {after} on the next page"),
        page.items.iter().map(|item| &item.key).collect::<Vec<_>>(),
    )?;
    ensure(
        page.next.as_ref().is_none_or(|next| next.after > *after),
        format!("a page that ends behind {after}"),
        &page.next,
    )
}

async fn pages(kit: &Kit<'_>) -> Finding {
    for limit in [1, 2, 3, 7, 50] {
        let store = kit.store().await;
        let mut model = Model::new(store.list(ListRequest::all("")).await?.revision);
        for n in 0..20_u8 {
            let txn = Txn::new().then(Write::put(format!("p/{n:02}").into(), [n]));
            let at = store.commit(txn.clone()).await?;
            model.land(&txn, at);
        }
        store.put("q".into(), *b"1").await?;
        let mut page = store
            .list(ListRequest {
                prefix: "p/".into(),
                limit,
                from: None,
            })
            .await?;
        let (at, mut seen, mut n) = (page.revision, Vec::<Versioned>::new(), 0_u8);
        loop {
            ensure_eq("revision of every page", page.revision, at)?;
            ensure(
                page.items.len() <= limit,
                format!("at most {limit}"),
                page.items.len(),
            )?;
            ensure(
                page.next.is_none() || !page.items.is_empty(),
                "items on a page with a next",
                &page,
            )?;
            seen.append(&mut page.items);
            // Before each further page: one key behind it deleted, one replaced, one new.
            let txn = Txn::new()
                .then(Write::Delete(format!("p/{:02}", 19 - n % 20).into()))
                .then(Write::put(format!("p/{:02}", (n + 5) % 20).into(), *b"new"))
                .then(Write::put(format!("p/{n:02}x").into(), *b"new"));
            if n < 20 && 19 - n != (n + 5) % 20 {
                store.commit(txn).await?;
            }
            n = n.saturating_add(1);
            match page_after(&*store, "p/", limit, &page).await? {
                Ok(Some(next)) => page = next,
                Ok(None) => break,
                Err(error) => match error.kind() {
                    StoreErrorKind::Compacted { .. } => break,
                    _ => return Err(error.into()),
                },
            }
        }
        let wanted = model
            .at(at)
            .map(|keys| under(keys, "p/"))
            .unwrap_or_default();
        let wanted: Vec<_> = wanted.into_iter().take(seen.len()).collect();
        ensure_eq("the pages together", seen, wanted)?;
    }
    Ok(())
}

async fn old_page(kit: &Kit<'_>) -> Finding {
    let store = kit.store().await;
    for n in 0..6_u8 {
        store.put(format!("p/{n}").into(), [n]).await?;
    }
    let first = store
        .list(ListRequest {
            prefix: "p/".into(),
            limit: 2,
            from: None,
        })
        .await?;
    store.delete("p/3".into()).await?;
    for n in 0..kit.options.churn {
        let mut value = vec![0; 1_000];
        value[..4].copy_from_slice(&n.to_be_bytes());
        store.put("p/4".into(), value).await?;
    }
    match page_after(&*store, "p/", 9, &first).await? {
        Ok(Some(page)) => {
            let seen: Vec<_> = page
                .items
                .iter()
                .map(|i| (i.key.as_str(), i.value[0]))
                .collect();
            ensure_eq("revision of the old page", page.revision, first.revision)?;
            let wanted = vec![("p/2", 2), ("p/3", 3), ("p/4", 4), ("p/5", 5)];
            ensure_eq("the old page", seen, wanted)
        }
        Err(error) if matches!(error.kind(), StoreErrorKind::Compacted { .. }) => Ok(()),
        other => fail("the page as it was, or Compacted", format!("{other:?}")),
    }
}
