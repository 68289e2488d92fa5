//! The suite for [`ReserveFactory`] and the [`Reserve`] that it opens.

use orchestra_core::conformance::{Finding, Report, ensure, ensure_eq};
use orchestra_core::meta::Uid;
use smol_str::format_smolstr;

use super::cases::Cases;
use super::check;
use crate::fixture::Cluster;
use crate::place::Pending;
use crate::place::plugin::{Cycle, Reserve, ReserveFactory};
use crate::snapshot::{NodeIx, Snapshot};

/// How many pods claim on one node before it is taken that there is no end to it.
const CLAIMS_MAX: usize = 64;

/// Tests books that a plan keeps. `seed` draws the clusters, and repeats them.
///
/// What is drawn knows nothing of labels of your own. Books that go by those refuse
/// all or nobody there, and fail for it: test them [in clusters of your own](reserve_in) too.
pub fn reserve(factory: &dyn ReserveFactory, seed: u64) -> Report {
    reserve_in(factory, seed, &[])
}

/// Tests books that a plan keeps in clusters of your own, and in those that `seed` draws.
pub fn reserve_in(factory: &dyn ReserveFactory, seed: u64, own: &[Cluster]) -> Report {
    let cases = Cases { seed, own };
    let mut report = Report {
        suite: "reserve",
        seed: Some(seed),
        checks: Vec::new(),
    };
    let sentence = "The clusters make it say something: else nothing below would find anything.";
    check(&mut report, "is_put_to_the_test", sentence, || {
        says_something(factory, cases)
    });
    macro_rules! check {
        ($name:ident, $sentence:literal) => {
            check(&mut report, stringify!($name), $sentence, || {
                cases.each(|snapshot, cycle| {
                    let claims = Claims::new(factory, cycle);
                    snapshot
                        .nodes()
                        .try_for_each(|(node, _)| $name(&claims, node))
                })
            });
        };
    }
    check!(has_a_name, "For reports and metrics.");
    check!(
        books_are_fresh_each_time,
        "Fresh books, reflecting the snapshot: planning leaves no trace behind."
    );
    check!(
        what_is_refused_is_not_claimed,
        "A refusal, after which nothing is claimed."
    );
    check!(
        what_is_given_back_can_be_claimed_again,
        "Gives back a claim."
    );
    check!(
        giving_back_without_a_claim_is_harmless,
        "Harmless without a claim."
    );
    report
}

/// Pods like the one that is asked about, which claim one after the other.
struct Claims<'a> {
    factory: &'a dyn ReserveFactory,
    cycle: &'a Cycle<'a>,
    pods: Vec<Pending>,
}

impl<'a> Claims<'a> {
    fn new(factory: &'a dyn ReserveFactory, cycle: &'a Cycle<'a>) -> Self {
        let alike = |n: usize| {
            let mut pod = cycle.pod.clone();
            pod.id.uid = Uid(1_000 + n as u128);
            pod.id.key.name = format_smolstr!("{}-{n}", pod.id.key.name);
            pod
        };
        Self {
            factory,
            cycle,
            pods: (0..CLAIMS_MAX).map(alike).collect(),
        }
    }

    fn open(&self) -> Box<dyn Reserve> {
        self.factory.open(self.cycle.snapshot())
    }

    /// For how many of the pods there is something on the node, the first refusal being the end.
    fn granted(&self, books: &mut dyn Reserve, node: NodeIx) -> usize {
        let ledger = self.cycle.ledger;
        let ask = |pod: &&Pending| {
            let cycle = Cycle::new(ledger, pod, self.cycle.now);
            books.reserve(&cycle, node).is_ok()
        };
        self.pods.iter().take_while(ask).count()
    }

    fn granted_afresh(&self, node: NodeIx) -> usize {
        self.granted(&mut *self.open(), node)
    }
}

fn says_something(factory: &dyn ReserveFactory, cases: Cases<'_>) -> Finding {
    let (mut granted, mut refused) = (false, false);
    cases.each(|snapshot: &Snapshot, cycle| {
        let claims = Claims::new(factory, cycle);
        for (node, _) in snapshot.nodes() {
            let grants = claims.granted_afresh(node);
            granted |= grants > 0;
            refused |= grants < CLAIMS_MAX;
        }
        Ok(())
    })?;
    let seen = match (granted, refused) {
        (true, true) => return Ok(()),
        (true, false) => "no refusal",
        _ => "no claim that is granted",
    };
    let expected = "a claim that is granted, and one that is not";
    let remedy = "give clusters of your own in which there are: `reserve_in`";
    ensure(false, expected, format_args!("{seen}; {remedy}"))
}

fn has_a_name(claims: &Claims<'_>, _: NodeIx) -> Finding {
    let books = claims.open();
    ensure(!books.name().is_empty(), "a name", books.name())
}

fn books_are_fresh_each_time(claims: &Claims<'_>, node: NodeIx) -> Finding {
    let expected = claims.granted_afresh(node);
    let seen = claims.granted_afresh(node);
    ensure_eq("claims granted by books opened again", seen, expected)
}

fn what_is_refused_is_not_claimed(claims: &Claims<'_>, node: NodeIx) -> Finding {
    let mut books = claims.open();
    let expected = claims.granted(&mut *books, node);
    if expected == CLAIMS_MAX {
        return Ok(());
    }
    for pod in &claims.pods[..expected] {
        books.release(pod, node);
    }
    ensure_eq(
        "claims granted once those before the refusal are given back",
        claims.granted(&mut *books, node),
        expected,
    )
}

fn what_is_given_back_can_be_claimed_again(claims: &Claims<'_>, node: NodeIx) -> Finding {
    let mut books = claims.open();
    if books.reserve(claims.cycle, node).is_err() {
        return Ok(());
    }
    books.release(claims.cycle.pod, node);
    ensure_eq(
        "claims granted after one that was given back",
        claims.granted(&mut *books, node),
        claims.granted_afresh(node),
    )
}

fn giving_back_without_a_claim_is_harmless(claims: &Claims<'_>, node: NodeIx) -> Finding {
    let mut books = claims.open();
    books.release(claims.cycle.pod, node);
    ensure_eq(
        "claims granted after one was given back that was never made; note who claimed",
        claims.granted(&mut *books, node),
        claims.granted_afresh(node),
    )
}
