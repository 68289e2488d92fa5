//! Whom a pod must and must not be near, and who must not be near it, as rules.

use std::sync::Arc;

use smol_str::{SmolStr, format_smolstr};

use super::Obstacle;
use crate::place::domains::{Bound, DomainRule, Source};
use crate::snapshot::relations::{Company, Domains, Others, PodTerm, Tally, meets_all};
use crate::snapshot::{Demand, Ledger, NodeIx};

/// A pod's required affinity and anti-affinity, and those of others against it, with what is
/// placed so far, to be asked of many nodes.
#[derive(Debug)]
pub(crate) struct PodAffinity<'a> {
    affinity: &'a [PodTerm],
    near: Option<Arc<Company>>,
    /// The pod is what it looks for and there is no other yet.
    first_of_its_kind: bool,
    away: Vec<(&'a PodTerm, Arc<Company>)>,
    others: Arc<Others>,
    /// The terms of others that mean this pod, in an order that does not tell when they came to be
    /// known.
    repelled: Vec<usize>,
}

impl<'a> PodAffinity<'a> {
    /// The same as rules on domains.
    pub(crate) fn domains(ledger: &Ledger, demand: &'a Demand) -> Vec<DomainRule> {
        let (affinity, anti): (&[_], &[_]) = match demand.relations.as_deref() {
            Some(relations) => (&relations.affinity, &relations.anti_affinity),
            None => (&[], &[]),
        };
        let snapshot = ledger.snapshot();
        let mut rules = Vec::new();
        if !affinity.is_empty() {
            let near = ledger.company(affinity);
            let or_first = meets_all(snapshot, affinity, demand);
            let rule = |nth: usize| {
                Some(DomainRule {
                    domains: Arc::clone(near.domains(nth)?),
                    source: Source::Company(near.number, nth),
                    bound: Bound::Peopled { or_first },
                    nowhere: false,
                })
            };
            rules.extend((0..affinity.len()).filter_map(rule));
        }
        for term in anti {
            let away = ledger.company(std::slice::from_ref(term));
            rules.extend(away.domains(0).map(|domains| DomainRule {
                domains: Arc::clone(domains),
                source: Source::Company(away.number, 0),
                bound: Bound::Empty,
                nowhere: true,
            }));
        }
        let others = ledger.others();
        rules.extend(
            others
                .repelling(snapshot, demand)
                .map(|(nth, other)| DomainRule {
                    domains: Arc::clone(&other.domains),
                    source: Source::Repelled(nth),
                    bound: Bound::Empty,
                    nowhere: true,
                }),
        );
        rules
    }

    /// `None` if the pod may be anywhere.
    pub(crate) fn open(ledger: &Ledger, demand: &'a Demand) -> Option<Self> {
        let (affinity, anti): (&[_], &[_]) = match demand.relations.as_deref() {
            Some(relations) => (&relations.affinity, &relations.anti_affinity),
            None => (&[], &[]),
        };
        let snapshot = ledger.snapshot();
        let others = ledger.others();
        let repelling = others.repelling(snapshot, demand);
        let mut repelled: Vec<usize> = repelling.map(|(nth, _)| nth).collect();
        if affinity.is_empty() && anti.is_empty() && repelled.is_empty() {
            return None;
        }
        if repelled.len() > 1 {
            repelled.sort_by_cached_key(|&nth| order(others.term(nth)));
        }
        let near = (!affinity.is_empty()).then(|| ledger.company(affinity));
        let first_of_its_kind = near
            .as_ref()
            .is_some_and(|near| near.is_empty() && meets_all(snapshot, affinity, demand));
        let away = anti
            .iter()
            .map(|term| (term, ledger.company(std::slice::from_ref(term))));
        Some(Self {
            affinity,
            near,
            first_of_its_kind,
            away: away.collect(),
            others,
            repelled,
        })
    }

    /// Whether the pod may be anywhere, whoever comes or goes.
    pub(crate) fn is_silent(ledger: &Ledger, demand: &Demand) -> bool {
        let own = demand.relations.as_deref();
        own.is_none_or(|own| own.affinity.is_empty() && own.anti_affinity.is_empty())
            && (ledger.others().repelling(ledger.snapshot(), demand).next()).is_none()
    }

    /// Whether the pod may be there.
    pub(crate) fn allows(&self, node: NodeIx) -> bool {
        self.misses(node).is_none()
            && self.disliked(node).is_none()
            && self.repelled(node).is_none()
    }

    /// All that is in the way: at most one thing of each kind.
    pub(crate) fn obstacles(&self, node: NodeIx) -> Vec<Obstacle> {
        let misses = self.misses(node).map(|nth| Obstacle::NoCompany {
            key: self.affinity[nth].topology_key.clone(),
            domain: self.domain_of(nth, node),
            pods: text(&self.affinity[nth]),
        });
        let disliked = self.disliked(node).map(|(nth, domain)| {
            let (term, company) = &self.away[nth];
            Obstacle::Company {
                key: term.topology_key.clone(),
                domain: company.column(0).0.value(domain).clone(),
                pods: text(term),
            }
        });
        let repelled = self.repelled(node).map(|(nth, domain)| {
            let nth = self.repelled[nth];
            let term = self.others.term(nth);
            Obstacle::Unwelcome {
                key: term.topology_key.clone(),
                domain: self.others.column(nth).0.value(domain).clone(),
                pods: text(term),
            }
        });
        misses.into_iter().chain(disliked).chain(repelled).collect()
    }

    /// A node's domain for one of the affinity terms.
    fn domain_of(&self, nth: usize, node: NodeIx) -> Option<SmolStr> {
        let (domains, _) = self.near.as_ref()?.column(nth);
        Some(domains.value(domains.of(node)?).clone())
    }

    /// The first term without a domain there, or else the first that nobody there meets.
    fn misses(&self, node: NodeIx) -> Option<usize> {
        let near = self.near.as_ref()?;
        let domain = |nth: usize| near.column(nth).0.of(node);
        let mut terms = 0..self.affinity.len();
        let nowhere = terms.clone().find(|&nth| domain(nth).is_none());
        nowhere.or_else(|| {
            let met = |nth| domain(nth).is_some_and(|domain| near.column(nth).1.get(domain) > 0);
            terms.find(|&nth| !self.first_of_its_kind && !met(nth))
        })
    }

    /// The first term that somebody there meets, and the domain.
    fn disliked(&self, node: NodeIx) -> Option<(usize, usize)> {
        let columns = self.away.iter().map(|(_, company)| company.column(0));
        first_present(columns, node)
    }

    /// The first term of somebody there that means this pod, and the domain.
    fn repelled(&self, node: NodeIx) -> Option<(usize, usize)> {
        let columns = self.repelled.iter();
        first_present(columns.map(|&nth| self.others.column(nth)), node)
    }
}

fn first_present<'c>(
    columns: impl Iterator<Item = (&'c Domains, &'c Tally)>,
    node: NodeIx,
) -> Option<(usize, usize)> {
    let mut columns = columns.enumerate();
    columns.find_map(|(nth, (domains, pods))| {
        let domain = domains.of(node)?;
        (pods.get(domain) > 0).then_some((nth, domain))
    })
}

/// Terms in the order of what people read of them.
fn order(term: &PodTerm) -> impl Ord + use<> {
    let namespaces = term.namespace_selector.as_ref();
    (
        term.topology_key.clone(),
        text(term),
        term.namespaces.clone(),
        namespaces.map(ToString::to_string),
    )
}

/// The pods that a term means, for people.
fn text(term: &PodTerm) -> SmolStr {
    match &term.selector {
        Some(selector) if selector.is_empty() => "any pod".into(),
        Some(selector) => format_smolstr!("{selector}"),
        None => "no pod".into(),
    }
}

/// What keeps the pod off that node by the company there: whom it misses, whom it must not be
/// near, and who must not be near it.
pub fn pod_affinity(ledger: &Ledger, node: NodeIx, demand: &Demand) -> Vec<Obstacle> {
    PodAffinity::open(ledger, demand).map_or_else(Vec::new, |rules| rules.obstacles(node))
}
