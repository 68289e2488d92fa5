//! Writing events, and removing old ones.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use orchestra_core::error::report;
use orchestra_core::kind::{Event, EventSource};
use orchestra_core::meta::{ObjectKey, ObjectMeta};
use orchestra_core::time::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::limit::Limit;
use super::{Happening, What};
use crate::api::{Api, ApiError, Client, Commit, DeleteParams, ListParams, NAMESPACE_DEFAULT};

/// How long happenings gather before they are written together.
const GATHER: Duration = Duration::from_millis(200);

/// Events written or removed by one commit.
const COMMIT_EVENTS_MAX: usize = 64;

/// How long an event is kept after it last happened.
const EVENT_TTL: Duration = Duration::from_secs(3_600);

/// Events kept at most, over all objects; the oldest go first.
const EVENTS_MAX: usize = 10_000;

/// How often old events are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(300);

/// Events created after which old ones are looked for sooner.
const SWEEP_AFTER_EVENTS: usize = EVENTS_MAX / 10;

/// The part of an event's name that comes from its object's, in bytes.
const NAME_BYTES_MAX: usize = 200;

/// Writes what recorders tell. See [`recorder`](super::recorder).
pub struct EventWriter {
    api: Api<Event>,
    queue: mpsc::Receiver<Happening>,
    limit: Limit,
    dropped: Arc<AtomicU64>,
    created: usize,
    sweep_at: Timestamp,
}

/// Like happenings, counted.
struct Counted {
    what: What,
    count: u32,
    first: Timestamp,
    last: Timestamp,
}

impl EventWriter {
    pub(super) fn new(
        client: Client,
        queue: mpsc::Receiver<Happening>,
        dropped: Arc<AtomicU64>,
    ) -> Self {
        let sweep_at = client.now() + SWEEP_EVERY;
        Self {
            api: client.api(),
            queue,
            limit: Limit::default(),
            dropped,
            created: 0,
            sweep_at,
        }
    }

    /// Writes events until `cancel` or until the last recorder is gone, and then what is still in
    /// the queue.
    ///
    /// Like happenings (same object, reason, message, severity and component) are counted in one
    /// event. One object causes at most 25 events at once and then one in five minutes. Events go
    /// an hour after they last happened, or when there are more than 10,000. What cannot be
    /// written is dropped: events never hold anything up.
    pub async fn run(mut self, cancel: CancellationToken) {
        loop {
            let until_sweep = self.sweep_at.since(self.now());
            let more = tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                first = self.queue.recv() => first,
                () = tokio::time::sleep(until_sweep) => {
                    self.sweep().await;
                    continue;
                }
            };
            let Some(first) = more else { return };
            tokio::select! {
                biased;
                () = cancel.cancelled() => {}
                () = tokio::time::sleep(GATHER) => {}
            }
            self.write_all(Some(first)).await;
            if self.created >= SWEEP_AFTER_EVENTS {
                self.sweep().await;
            }
        }
        self.write_all(None).await;
    }

    fn now(&self) -> Timestamp {
        self.api.client().now()
    }

    /// Writes what is in the queue now.
    async fn write_all(&mut self, first: Option<Happening>) {
        let mut events: BTreeMap<ObjectKey, Counted> = BTreeMap::new();
        let mut next = first.or_else(|| self.queue.try_recv().ok());
        while let Some(Happening { what, at }) = next {
            match events.get_mut(&event_key(&what)) {
                Some(event) => {
                    event.count = event.count.saturating_add(1);
                    event.last = event.last.max(at);
                }
                None if self.limit.allows(what.object.uid, at) => {
                    let event = Counted {
                        count: 1,
                        first: at,
                        last: at,
                        what,
                    };
                    events.insert(event_key(&event.what), event);
                }
                None => self.count_dropped(1),
            }
            next = self.queue.try_recv().ok();
        }
        let mut events = events.into_iter().peekable();
        while events.peek().is_some() {
            let batch: Vec<_> = events.by_ref().take(COMMIT_EVENTS_MAX).collect();
            if self.write(&batch).await.is_ok() {
                continue;
            }
            // One of them stands in the way of the others: each by itself.
            for event in &batch {
                if let Err(error) = self.write(std::slice::from_ref(event)).await {
                    tracing::debug!(error = %report(&error), "event dropped");
                    self.count_dropped(u64::from(event.1.count));
                }
            }
        }
    }

    async fn write(&mut self, batch: &[(ObjectKey, Counted)]) -> Result<(), ApiError> {
        let mut commit = self.api.client().commit();
        let mut created = 0;
        for (key, event) in batch {
            commit = match self.api.find(key).await? {
                Some(current) => commit.replace_whole(repeated(&current, event)),
                None => {
                    created += 1;
                    commit.create(new_event(key, event))
                }
            };
        }
        commit.send().await?;
        self.created += created;
        Ok(())
    }

    /// Removes what is old or too much.
    async fn sweep(&mut self) {
        let now = self.now();
        self.created = 0;
        self.sweep_at = now + SWEEP_EVERY;
        let mut events = match self.api.list(ListParams::default()).await {
            Ok(list) => list.items,
            Err(error) => {
                tracing::debug!(error = %report(&error), "old events stay for now");
                return;
            }
        };
        let last = |event: &Event| event.last_timestamp.or(event.metadata.creation_timestamp);
        events.sort_by_cached_key(|event| (last(event), event.metadata.key()));
        let too_many = events.len().saturating_sub(EVENTS_MAX);
        let mut commit = self.api.client().commit();
        for (n, event) in events.iter().enumerate() {
            let old = last(event).is_none_or(|last| now.since(last) >= EVENT_TTL);
            if !old && n >= too_many {
                break;
            }
            commit = commit.delete_with(&**event, DeleteParams::now());
            if commit.len() == COMMIT_EVENTS_MAX {
                let full = std::mem::replace(&mut commit, self.api.client().commit());
                send_removals(full).await;
            }
        }
        if !commit.is_empty() {
            send_removals(commit).await;
        }
    }

    fn count_dropped(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }
}

/// Another writer may sweep too, or an event happen again: the next sweep looks again.
async fn send_removals(commit: Commit) {
    if let Err(error) = commit.send().await {
        tracing::debug!(error = %report(&error), "old events stay for now");
    }
}

/// Where the event for `what` stands: the same for like happenings, whoever tells them and after
/// whichever restart.
fn event_key(what: &What) -> ObjectKey {
    let object = &what.object;
    // FNV-1a: stable over releases, unlike std's.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let uid = object.uid.0.to_be_bytes();
    let severity = [what.severity as u8];
    for part in [
        &uid[..],
        object.kind.as_bytes(),
        object.field_path.as_bytes(),
        &severity,
        what.reason.as_bytes(),
        what.message.as_bytes(),
        what.component.as_bytes(),
    ] {
        for byte in part.iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    let mut end = object.name.len().min(NAME_BYTES_MAX);
    while !object.name.is_char_boundary(end) {
        end -= 1;
    }
    let base = object.name[..end].trim_end_matches(['.', '-']);
    let namespace = match object.namespace.is_empty() {
        true => NAMESPACE_DEFAULT,
        false => object.namespace.clone(),
    };
    ObjectKey::namespaced(namespace, format!("{base}.{hash:016x}"))
}

fn new_event(key: &ObjectKey, counted: &Counted) -> Event {
    let what = &counted.what;
    Event {
        metadata: ObjectMeta {
            name: key.name.clone(),
            namespace: key.namespace.clone(),
            ..ObjectMeta::default()
        },
        involved_object: what.object.clone(),
        reason: what.reason.clone(),
        message: what.message.clone(),
        severity: what.severity,
        count: counted.count,
        first_timestamp: Some(counted.first),
        last_timestamp: Some(counted.last),
        reporting_component: what.component.clone(),
        source: EventSource {
            component: what.component.clone(),
            ..EventSource::default()
        },
        ..Event::default()
    }
}

fn repeated(current: &Event, counted: &Counted) -> Event {
    let mut event = current.clone();
    event.count = event.count.saturating_add(counted.count);
    event.last_timestamp = event.last_timestamp.max(Some(counted.last));
    event
}

impl fmt::Debug for EventWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventWriter")
            .field("waiting", &self.queue.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::{EVENT_QUEUE_MAX, Recorder, recorder};
    use super::*;
    use crate::api::fixture::{Widget, client, widget};

    async fn started() -> (Client, Recorder, tokio_util::sync::DropGuard) {
        let client = client();
        let (recorder, writer) = recorder(&client, "test");
        let cancel = CancellationToken::new();
        tokio::spawn(writer.run(cancel.clone()));
        (client, recorder, cancel.drop_guard())
    }

    async fn events(client: &Client) -> Vec<Arc<Event>> {
        client
            .api::<Event>()
            .list(ListParams::default())
            .await
            .unwrap()
            .items
    }

    async fn made(client: &Client, name: &str) -> Arc<Widget> {
        client.api::<Widget>().create(widget(name)).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn like_happenings_are_counted_in_one_event() {
        let (client, recorder, _running) = started().await;
        let object = made(&client, "a").await;
        for _ in 0..3 {
            recorder.normal(&*object, "Started", "it started");
        }
        recorder.warning(&*object, "Failed", "it failed");
        tokio::time::sleep(Duration::from_secs(10)).await;
        recorder.normal(&*object, "Started", "it started");
        tokio::time::sleep(Duration::from_secs(10)).await;
        let mut all = events(&client).await;
        all.sort_by_key(|event| event.count);
        assert_eq!(all.iter().map(|e| e.count).collect::<Vec<_>>(), [1, 4]);
        assert_eq!(all[0].reason, "Failed");
        assert_eq!(all[1].involved_object.uid, object.metadata.uid);
        let span = all[1]
            .last_timestamp
            .unwrap()
            .since(all[1].first_timestamp.unwrap());
        assert_eq!(span, Duration::from_secs(10));
        assert_eq!(all[1].metadata.namespace, "default");
    }

    #[tokio::test(start_paused = true)]
    async fn a_chatty_object_is_held_back_and_others_are_not() {
        let (client, recorder, _running) = started().await;
        let (chatty, quiet) = (made(&client, "a").await, made(&client, "b").await);
        for n in 0..1_000 {
            recorder.normal(&*chatty, "Tick", format!("tick {n}"));
        }
        recorder.normal(&*quiet, "Tick", "one tick");
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(events(&client).await.len(), 26);
        assert_eq!(recorder.dropped(), 975);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_drops_and_counts() {
        let client = client();
        let object = made(&client, "a").await;
        let (recorder, _nobody_runs_it) = recorder(&client, "test");
        for _ in 0..EVENT_QUEUE_MAX + 5 {
            recorder.normal(&*object, "Tick", "x".repeat(2_000));
        }
        assert_eq!(recorder.dropped(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn old_events_go() {
        let (client, recorder, _running) = started().await;
        let object = made(&client, "a").await;
        recorder.normal(&*object, "Once", "long ago");
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_secs(1_000)).await;
            recorder.normal(&*object, "Often", "again and again");
        }
        tokio::time::sleep(Duration::from_secs(600)).await;
        let reasons: Vec<_> = events(&client)
            .await
            .iter()
            .map(|e| e.reason.clone())
            .collect();
        assert_eq!(reasons, ["Often"]);
        tokio::time::sleep(Duration::from_secs(4_000)).await;
        assert!(events(&client).await.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_written_does_not_hold_up_the_rest() {
        let (client, recorder, _running) = started().await;
        let object = made(&client, "a").await;
        let mut stray = Widget::clone(&object);
        stray.metadata.namespace = "nowhere".into();
        recorder.normal(&stray, "Lost", "its namespace is gone");
        recorder.normal(&*object, "Kept", "this is written");
        tokio::time::sleep(Duration::from_secs(1)).await;
        let all = events(&client).await;
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].reason, "Kept");
        assert_eq!(recorder.dropped(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_told_before_the_end_is_written() {
        let (client, recorder, running) = started().await;
        let object = made(&client, "a").await;
        tokio::task::yield_now().await;
        recorder.normal(&*object, "Last", "the last words");
        drop(running);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(events(&client).await.len(), 1);
    }
}
