//! An agent's view of the cluster, which a partition freezes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use orchestra_core::kind::{Node, Pod, Service};
use smol_str::SmolStr;
use tokio::sync::Notify;

use crate::agent::NodeView;

/// Whether a node's view is frozen, and what it shows then.
#[derive(Debug, Default)]
pub(super) struct Gate {
    closed: Mutex<bool>,
    opened: Notify,
}

impl Gate {
    pub(super) fn set_closed(&self, closed: bool) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = closed;
        self.opened.notify_waiters();
    }

    fn is_closed(&self) -> bool {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A view behind a gate. What the agent saw last is what it goes on seeing while the gate is
/// closed; an agent that begins behind a closed gate sees nothing.
#[derive(Debug)]
pub(super) struct GatedView {
    inner: Arc<dyn NodeView>,
    gate: Arc<Gate>,
    last: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    pods: Vec<Arc<Pod>>,
    node: Option<Arc<Node>>,
    services: BTreeMap<SmolStr, Vec<Arc<Service>>>,
}

impl GatedView {
    pub(super) fn new(inner: Arc<dyn NodeView>, gate: Arc<Gate>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            gate,
            last: Mutex::default(),
        })
    }

    fn last(&self) -> MutexGuard<'_, Seen> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl NodeView for GatedView {
    fn pods(&self) -> Vec<Arc<Pod>> {
        let mut last = self.last();
        if !self.gate.is_closed() {
            last.pods = self.inner.pods();
        }
        last.pods.clone()
    }

    fn node(&self) -> Option<Arc<Node>> {
        let mut last = self.last();
        if !self.gate.is_closed() {
            last.node = self.inner.node();
        }
        last.node.clone()
    }

    fn services(&self, namespace: &str) -> Vec<Arc<Service>> {
        let mut last = self.last();
        if !self.gate.is_closed() {
            let now = self.inner.services(namespace);
            last.services.insert(namespace.into(), now);
        }
        last.services.get(namespace).cloned().unwrap_or_default()
    }

    async fn changed(&self) {
        let mut waited = false;
        loop {
            let opened = self.gate.opened.notified();
            tokio::pin!(opened);
            opened.as_mut().enable();
            if !self.gate.is_closed() {
                if waited {
                    return; // whatever happened behind the gate
                }
                tokio::select! {
                    biased;
                    () = &mut opened => {}
                    () = self.inner.changed() => {
                        if !self.gate.is_closed() {
                            return;
                        }
                    }
                }
            } else {
                opened.await;
            }
            waited = true;
        }
    }
}
