//! Choosing an endpoint for a connection or a request.

use std::fmt;

use orchestra_core::meta::Uid;
use orchestra_core::port::registry::Endpoint;

mod round_robin;

pub use round_robin::RoundRobin;

/// What a balancer chooses from.
///
/// More may be said here later (weights, requests in flight, a key to stick to), so that build it
/// with [`new`](Self::new).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct BalanceView<'a> {
    /// Every endpoint of the service, ordered by pod, also those that are not ready.
    pub endpoints: &'a [Endpoint],
    /// Pods that were tried for this request already, and failed. Few: it is searched linearly.
    pub tried: &'a [Uid],
}

impl<'a> BalanceView<'a> {
    /// Any of these endpoints will do, if it is ready.
    pub fn new(endpoints: &'a [Endpoint]) -> Self {
        Self {
            endpoints,
            tried: &[],
        }
    }

    /// None of these pods again.
    #[must_use]
    pub fn without(mut self, tried: &'a [Uid]) -> Self {
        self.tried = tried;
        self
    }

    /// Whether the endpoint at `index` may be chosen: it is ready, not ending, and not tried
    /// yet. False past the end.
    pub fn may_choose(&self, index: usize) -> bool {
        self.endpoints.get(index).is_some_and(|endpoint| {
            endpoint.ready && !endpoint.terminating && !self.tried.contains(&endpoint.pod)
        })
    }
}

/// Chooses who answers.
///
/// # Contract
///
/// * The answer is the index of an endpoint that [may be chosen](BalanceView::may_choose), or
///   `None` if there is none; never `None` while there is one.
/// * Called from many tasks at once; must not block and must not panic.
/// * Called from one task, the same calls give the same answers.
pub trait Balancer: fmt::Debug + Send + Sync + 'static {
    /// The index of the endpoint to use.
    fn pick(&self, view: BalanceView<'_>) -> Option<usize>;
}

const _: Option<&dyn Balancer> = None;
