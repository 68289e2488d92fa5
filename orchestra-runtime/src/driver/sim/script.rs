//! What simulated workloads do, and when.

use std::ops::Range;
use std::time::Duration;

use orchestra_core::port::driver::{DriverErrorKind, Exit, Usage, Workload};
use orchestra_core::time::Timestamp;
use rand::RngExt;
use rand_pcg::Pcg64;
use smol_str::SmolStr;

/// How long something takes: always the same, or anything between two durations, drawn from the
/// driver's seed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Span {
    from: Duration,
    to: Duration,
}

impl Span {
    /// Evenly between `from` and `to`, both included.
    pub fn between(from: Duration, to: Duration) -> Self {
        Self {
            from: from.min(to),
            to: from.max(to),
        }
    }

    fn draw(self, chance: &mut Pcg64) -> Duration {
        if self.from == self.to {
            return self.from;
        }
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(chance.random_range(micros(self.from)..=micros(self.to)))
    }
}

impl From<Duration> for Span {
    fn from(always: Duration) -> Self {
        Self {
            from: always,
            to: always,
        }
    }
}

/// Which workloads a rule is for; what is not said does not matter.
#[derive(Clone, Debug, Default)]
pub struct Match {
    image: Option<SmolStr>,
    pod: Option<SmolStr>,
    container: Option<SmolStr>,
    attempts: Option<Range<u32>>,
}

impl Match {
    /// Every workload.
    pub fn any() -> Self {
        Self::default()
    }

    /// Only this image.
    #[must_use]
    pub fn image(mut self, image: impl Into<SmolStr>) -> Self {
        self.image = Some(image.into());
        self
    }

    /// Only pods whose `namespace/name` starts like this.
    #[must_use]
    pub fn pod(mut self, prefix: impl Into<SmolStr>) -> Self {
        self.pod = Some(prefix.into());
        self
    }

    /// Only containers of this name.
    #[must_use]
    pub fn container(mut self, name: impl Into<SmolStr>) -> Self {
        self.container = Some(name.into());
        self
    }

    /// Only these attempts; the first is 0.
    #[must_use]
    pub fn attempts(mut self, attempts: Range<u32>) -> Self {
        self.attempts = Some(attempts);
        self
    }

    fn covers(&self, want: &Workload) -> bool {
        self.image
            .as_ref()
            .is_none_or(|image| want.image == image.as_str())
            && self
                .pod
                .as_ref()
                .is_none_or(|prefix| want.pod_name.starts_with(prefix.as_str()))
            && self
                .container
                .as_ref()
                .is_none_or(|name| want.id.container == *name)
            && self
                .attempts
                .as_ref()
                .is_none_or(|attempts| attempts.contains(&want.attempt))
    }
}

/// Which workload behaves how: rules in order, of which the first that fits holds. Without a rule
/// a workload starts at once, is well, runs for ever and ends when asked.
#[derive(Clone, Debug, Default)]
pub struct SimScript {
    rules: Vec<(Match, Behavior)>,
}

impl SimScript {
    /// A script without rules.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a rule after those before.
    #[must_use]
    pub fn when(mut self, which: Match, behavior: Behavior) -> Self {
        self.rules.push((which, behavior));
        self
    }

    pub(super) fn behavior(&self, want: &Workload) -> Behavior {
        let rule = self.rules.iter().find(|(which, _)| which.covers(want));
        rule.map(|(_, behavior)| behavior.clone())
            .unwrap_or_default()
    }
}

/// What one workload does. Durations count from its start unless said otherwise.
#[derive(Clone, Debug, Default)]
pub struct Behavior {
    starts_after: Span,
    ready_after: Span,
    answers_in: Span,
    exits: Option<(Span, i32)>,
    crashes: Option<(u32, Span, i32)>,
    refuses: Option<(u32, DriverErrorKind)>,
    hangs_after: Option<Span>,
    sick_after: Option<Span>,
    term_takes: Span,
    term_code: Option<i32>,
    cpu_milli: u64,
    memory_bytes: u64,
}

impl Behavior {
    /// Starts at once, is well, runs for ever, ends when asked, uses nothing.
    pub fn runs() -> Self {
        Self::default()
    }

    /// Ends by itself after `after` with `code`.
    pub fn exits(after: impl Into<Span>, code: i32) -> Self {
        Self {
            exits: Some((after.into(), code)),
            ..Self::default()
        }
    }

    /// Starting it takes this long from when it is asked for; `ensure` waits for it.
    #[must_use]
    pub fn starts_after(mut self, span: impl Into<Span>) -> Self {
        self.starts_after = span.into();
        self
    }

    /// Probes fail until then.
    #[must_use]
    pub fn ready_after(mut self, span: impl Into<Span>) -> Self {
        self.ready_after = span.into();
        self
    }

    /// A passing probe takes this long.
    #[must_use]
    pub fn answers_in(mut self, span: impl Into<Span>) -> Self {
        self.answers_in = span.into();
        self
    }

    /// Its first `times` attempts end with `code` after `after`; the later ones do as said
    /// otherwise.
    #[must_use]
    pub fn crashes(mut self, times: u32, after: impl Into<Span>, code: i32) -> Self {
        self.crashes = Some((times, after.into(), code));
        self
    }

    /// Its first `times` attempts cannot be started. The attempt does not count as seen, so the
    /// caller that tries the same attempt again is refused again.
    #[must_use]
    pub fn refuses(mut self, times: u32, kind: DriverErrorKind) -> Self {
        self.refuses = Some((times, kind));
        self
    }

    /// Probes get no answer from then on.
    #[must_use]
    pub fn hangs_after(mut self, span: impl Into<Span>) -> Self {
        self.hangs_after = Some(span.into());
        self
    }

    /// Probes get bad answers from then on.
    #[must_use]
    pub fn sick_after(mut self, span: impl Into<Span>) -> Self {
        self.sick_after = Some(span.into());
        self
    }

    /// Takes this long to end once asked (and is killed if its grace is shorter).
    #[must_use]
    pub fn ignores_term_for(mut self, span: impl Into<Span>) -> Self {
        self.term_takes = span.into();
        self
    }

    /// Ends with this code when asked to end, instead of by signal 15.
    #[must_use]
    pub fn term_code(mut self, code: i32) -> Self {
        self.term_code = Some(code);
        self
    }

    /// What it uses all the time.
    #[must_use]
    pub fn uses(mut self, cpu_milli: u64, memory_bytes: u64) -> Self {
        self.cpu_milli = cpu_milli;
        self.memory_bytes = memory_bytes;
        self
    }

    pub(super) fn refusal(&self, attempt: u32) -> Option<DriverErrorKind> {
        self.refuses
            .and_then(|(times, kind)| (attempt < times).then_some(kind))
    }

    /// Draws one life. Every span is drawn, used or not, so that one more rule leaves the other
    /// draws as they were.
    pub(super) fn live(self, now: Timestamp, attempt: u32, chance: &mut Pcg64) -> Life {
        let since = now + self.starts_after.draw(chance);
        let ready_at = since + self.ready_after.draw(chance);
        let answers_in = self.answers_in.draw(chance);
        let exits = self
            .exits
            .map(|(after, code)| (since + after.draw(chance), code));
        let crashes = self.crashes.map(|(times, after, code)| {
            let at = since + after.draw(chance);
            (attempt < times, at, code)
        });
        let end = match crashes {
            Some((true, at, code)) => Some((at, code)),
            _ => exits,
        };
        Life {
            since,
            ready_at,
            answers_in,
            hangs_from: self.hangs_after.map(|span| since + span.draw(chance)),
            sick_from: self.sick_after.map(|span| since + span.draw(chance)),
            term_takes: self.term_takes.draw(chance),
            term_code: self.term_code,
            end: end.map(|(at, code)| ended(at, code, None, "", "")),
            counted_to: since,
            cpu_micros: 0,
            cpu_milli: self.cpu_milli,
            memory_bytes: self.memory_bytes,
        }
    }
}

/// One start of one workload: all that will happen to it unless somebody interferes.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) since: Timestamp,
    ready_at: Timestamp,
    pub(super) answers_in: Duration,
    pub(super) hangs_from: Option<Timestamp>,
    pub(super) sick_from: Option<Timestamp>,
    term_takes: Duration,
    term_code: Option<i32>,
    end: Option<Exit>,
    counted_to: Timestamp,
    cpu_micros: u64,
    cpu_milli: u64,
    memory_bytes: u64,
}

/// How a running workload answers.
pub(super) enum Health {
    Well,
    Sick(&'static str),
    Hangs,
}

impl Life {
    /// How it has ended, if it has by `now`.
    pub(super) fn exit(&self, now: Timestamp) -> Option<Exit> {
        self.end.as_ref().filter(|end| end.at <= now).cloned()
    }

    /// When it will end, as things stand.
    pub(super) fn ends_at(&self) -> Option<Timestamp> {
        self.end.as_ref().map(|end| end.at)
    }

    /// Ends it at `at`, unless it ends before.
    pub(super) fn end_at(
        &mut self,
        at: Timestamp,
        code: i32,
        signal: Option<i32>,
        reason: &str,
        message: &str,
    ) {
        if self.end.as_ref().is_none_or(|end| at < end.at) {
            self.end = Some(ended(at, code, signal, reason, message));
        }
    }

    /// Its SIGTERM, and SIGKILL after `grace`.
    pub(super) fn ask_to_end(&mut self, now: Timestamp, grace: Duration) {
        if grace < self.term_takes || grace.is_zero() {
            return self.end_at(now + grace, 137, Some(9), "Killed", "");
        }
        let signal = self.term_code.is_none().then_some(15);
        self.end_at(
            now + self.term_takes,
            self.term_code.unwrap_or(143),
            signal,
            "",
            "",
        );
    }

    pub(super) fn health(&self, now: Timestamp) -> Health {
        if self.hangs_from.is_some_and(|from| from <= now) {
            Health::Hangs
        } else if now < self.ready_at {
            Health::Sick("connection refused: it is not ready yet")
        } else if self.sick_from.is_some_and(|from| from <= now) {
            Health::Sick("status 503")
        } else {
            Health::Well
        }
    }

    /// Until when every look finds it well, and takes no time; `None` if the next may not.
    pub(super) fn well_until(&self, now: Timestamp) -> Option<Timestamp> {
        let runs = self.since <= now && self.exit(now).is_none();
        if !runs || !self.answers_in.is_zero() || !matches!(self.health(now), Health::Well) {
            return None;
        }
        let ends = [self.ends_at(), self.hangs_from, self.sick_from];
        Some(ends.into_iter().flatten().min().unwrap_or(Timestamp::MAX))
    }

    /// Changes what it uses from `now` on.
    pub(super) fn uses(&mut self, now: Timestamp, cpu_milli: u64, memory_bytes: u64) {
        self.cpu_micros = self.usage(now).cpu_micros;
        self.counted_to = now.max(self.since);
        self.cpu_milli = cpu_milli;
        self.memory_bytes = memory_bytes;
    }

    pub(super) fn usage(&self, now: Timestamp) -> Usage {
        let micros = u64::try_from(now.since(self.counted_to).as_micros()).unwrap_or(u64::MAX);
        let since = micros.saturating_mul(self.cpu_milli) / 1000;
        Usage {
            cpu_micros: self.cpu_micros.saturating_add(since),
            memory_bytes: self.memory_bytes,
            processes: 1,
        }
    }
}

fn ended(at: Timestamp, code: i32, signal: Option<i32>, reason: &str, message: &str) -> Exit {
    let reason = match (reason, code) {
        ("", 0) => "Completed",
        ("", _) => "Error",
        (given, _) => given,
    };
    Exit {
        code,
        signal,
        reason: reason.into(),
        message: message.to_owned(),
        at,
    }
}
