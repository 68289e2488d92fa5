//! Telling people what happened to an object, without ever standing in the way.
//!
//! A [`Recorder`] takes what happened and returns at once; an [`EventWriter`] counts like
//! happenings together, writes them as Event objects, and removes old ones.

mod limit;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use orchestra_core::kind::{EventType, ObjectReference, Resource};
use orchestra_core::port::clock::Clock;
use orchestra_core::time::Timestamp;
use smol_str::SmolStr;
use tokio::sync::mpsc;

use crate::api::Client;
pub use writer::EventWriter;

/// Happenings that wait to be written. What comes while it is full is dropped and counted.
const EVENT_QUEUE_MAX: usize = 8_192;

/// The longest message of an event, in bytes; the rest is cut.
const MESSAGE_BYTES_MAX: usize = 1_024;

/// Tells what happened. Cheap to clone; clones share the queue.
#[derive(Clone)]
pub struct Recorder {
    component: SmolStr,
    clock: Arc<dyn Clock>,
    happened: mpsc::Sender<Happening>,
    dropped: Arc<AtomicU64>,
}

/// Something that happened to an object.
#[derive(Clone, Debug)]
struct Happening {
    what: What,
    at: Timestamp,
}

/// What makes two happenings alike.
#[derive(Clone, Debug)]
struct What {
    object: ObjectReference,
    severity: EventType,
    reason: SmolStr,
    message: String,
    component: SmolStr,
}

/// A recorder for `component` (`orchestra.dev/scheduler`), and what writes its events: somebody
/// has to run that.
pub fn recorder(client: &Client, component: impl Into<SmolStr>) -> (Recorder, EventWriter) {
    let (happened, queue) = mpsc::channel(EVENT_QUEUE_MAX);
    let dropped = Arc::new(AtomicU64::new(0));
    let recorder = Recorder {
        component: component.into(),
        clock: client.clock().clone(),
        happened,
        dropped: dropped.clone(),
    };
    (recorder, EventWriter::new(client.clone(), queue, dropped))
}

impl Recorder {
    /// The same queue, told by another component.
    #[must_use]
    pub fn component(&self, component: impl Into<SmolStr>) -> Self {
        Self {
            component: component.into(),
            ..self.clone()
        }
    }

    /// Tells that something happened to `object`: `reason` in a word for machines
    /// (`FailedScheduling`), `message` for people. Never waits and never fails; what there is no
    /// room for is dropped. A message past 1,024 bytes is cut.
    pub fn tell<K: Resource>(
        &self,
        object: &K,
        severity: EventType,
        reason: impl Into<SmolStr>,
        message: impl Into<String>,
    ) {
        self.tell_of(ObjectReference::to(object), severity, reason, message);
    }

    /// Tells that all is well, about `object`.
    pub fn normal<K: Resource>(
        &self,
        object: &K,
        reason: impl Into<SmolStr>,
        message: impl Into<String>,
    ) {
        self.tell(object, EventType::Normal, reason, message);
    }

    /// Tells that somebody may have to look at `object`.
    pub fn warning<K: Resource>(
        &self,
        object: &K,
        reason: impl Into<SmolStr>,
        message: impl Into<String>,
    ) {
        self.tell(object, EventType::Warning, reason, message);
    }

    /// As [`tell`](Self::tell), about an object of which only the reference is at hand.
    pub fn tell_of(
        &self,
        object: ObjectReference,
        severity: EventType,
        reason: impl Into<SmolStr>,
        message: impl Into<String>,
    ) {
        let mut message: String = message.into();
        if message.len() > MESSAGE_BYTES_MAX {
            let mut end = MESSAGE_BYTES_MAX;
            while !message.is_char_boundary(end) {
                end -= 1;
            }
            message.truncate(end);
        }
        let component = self.component.clone();
        let what = What {
            object,
            severity,
            reason: reason.into(),
            message,
            component,
        };
        if self
            .happened
            .try_send(Happening {
                what,
                at: self.clock.now(),
            })
            .is_err()
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many happenings were dropped so far: for want of room, by the limit for each object, or
    /// because they could not be written.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("component", &self.component)
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}
