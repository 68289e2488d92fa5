//! Listing objects, in pages at one revision.

use std::sync::Arc;

use orchestra_core::kind::{FieldError, Resource};
use orchestra_core::meta::Labels;
use orchestra_core::port::store::{Cursor, Key, ListRequest, Revision, StoreErrorKind};
use orchestra_core::selector::LabelSelector;
use smol_str::SmolStr;

use super::client::Client;
use super::error::{ApiError, ApiErrorKind};
use super::object::{decode, store_prefix};

/// What to list or watch. The default is everything.
#[derive(Clone, Debug, Default)]
pub struct ListParams {
    /// Only in this namespace. Ignored for cluster-wide kinds.
    pub namespace: Option<SmolStr>,
    /// Only objects whose labels match.
    pub selector: Option<LabelSelector>,
    /// At most this many objects in one page; `None` is all. Watches ignore it.
    pub limit: Option<usize>,
    /// Where the page before ended: its [`List::continue_token`].
    pub continue_token: Option<String>,
}

impl ListParams {
    /// Everything in one namespace.
    pub fn namespace(namespace: impl Into<SmolStr>) -> Self {
        Self {
            namespace: Some(namespace.into()),
            ..Self::default()
        }
    }

    /// Only objects whose labels match.
    #[must_use]
    pub fn matching(mut self, selector: LabelSelector) -> Self {
        self.selector = Some(selector);
        self
    }

    /// At most this many objects in one page.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Goes on where the page before ended.
    #[must_use]
    pub fn after(mut self, continue_token: impl Into<String>) -> Self {
        self.continue_token = Some(continue_token.into());
        self
    }

    pub(crate) fn selects(&self, labels: &Labels) -> bool {
        self.selector
            .as_ref()
            .is_none_or(|selector| selector.matches(labels))
    }
}

/// One page of a listing.
#[derive(Clone, Debug)]
pub struct List<K> {
    /// The objects, ordered by key.
    pub items: Vec<Arc<K>>,
    /// The revision at which the whole listing reads: watch from here.
    pub revision: Revision,
    /// Where to go on, if there is more. Opaque.
    pub continue_token: Option<String>,
}

/// Objects that one read of the store fetches while it looks for matches.
const LIST_PAGE_OBJECTS: usize = 1_000;

pub(crate) async fn list<K: Resource>(
    client: &Client,
    params: &ListParams,
) -> Result<List<K>, ApiError> {
    const OP: &str = "list";
    let prefix = store_prefix::<K>(params.namespace.as_deref());
    let mut from = match &params.continue_token {
        Some(token) => Some(cursor::<K>(token, &prefix)?),
        None => None,
    };
    let limit = params.limit.unwrap_or(usize::MAX).max(1);
    let mut items = Vec::new();
    loop {
        let wanted = (limit - items.len()).min(LIST_PAGE_OBJECTS);
        let request = ListRequest {
            prefix: prefix.clone(),
            limit: wanted,
            from,
        };
        let page = client.store().list(request).await.map_err(|error| {
            let gone = matches!(error.kind(), StoreErrorKind::Compacted { .. });
            let failed = ApiError::store(error, OP, K::PLURAL);
            debug_assert!(!gone || *failed.kind() == ApiErrorKind::Gone);
            failed
        })?;
        for stored in &page.items {
            let object = decode::<K>(client.shelf(), stored, OP)?;
            if params.selects(&object.metadata().labels) {
                items.push(object);
            }
        }
        let done = page.next.is_none() || items.len() >= limit;
        if done {
            let continue_token = page
                .next
                .map(|cursor| format!("{}:{}", cursor.at, cursor.after));
            return Ok(List {
                items,
                revision: page.revision,
                continue_token,
            });
        }
        from = page.next;
    }
}

/// What a continue token says: the revision and the last key delivered.
fn cursor<K: Resource>(token: &str, prefix: &Key) -> Result<Cursor, ApiError> {
    let parsed = token.split_once(':').and_then(|(at, after)| {
        let at = Revision(at.parse().ok()?);
        after.starts_with(prefix.as_str()).then(|| Cursor {
            after: after.into(),
            at,
        })
    });
    parsed.ok_or_else(|| {
        let problem = "it is not a token of such a listing";
        let remedy = "pass on what the page before returned, with the same namespace";
        let error = FieldError::new("continue", token, problem, remedy);
        ApiError::invalid("list", K::PLURAL, error)
    })
}
