//! Like pods share what they ask.

use std::collections::BTreeMap;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use orchestra_core::kind::pod::{Pod, PodSpec};
use orchestra_core::meta::{Labels, Uid};
use smol_str::SmolStr;

use super::Demand;
use crate::place::Words;

/// Fewer demands than this are not looked through for those that nobody has any more.
const SWEPT_MIN: usize = 1_024;

/// Templates of which it is known what their pods ask.
const TEMPLATES_MAX: usize = 512;

/// Each demand that some pod has, once.
#[derive(Clone, Debug, Default)]
pub(super) struct Shapes {
    by_hash: BTreeMap<u64, Vec<Arc<Demand>>>,
    len: usize,
    /// How many there were when those that nobody has were last dropped.
    swept: usize,
    /// What pods of a template ask, by their owner and the template's hash.
    templates: BTreeMap<(Uid, SmolStr), Arc<Template>>,
}

/// A pod that others are like: all of it that says what it asks.
#[derive(Debug)]
struct Template {
    namespace: SmolStr,
    labels: Labels,
    annotations: Labels,
    spec: PodSpec,
    demand: Arc<Demand>,
}

impl Template {
    /// Whether `pod` asks for what this one does. Both have the same owner.
    fn is_like(&self, pod: &Pod) -> bool {
        let meta = &pod.metadata;
        self.namespace == meta.namespace
            && self.labels == meta.labels
            && self.annotations == meta.annotations
            && self.spec.same_but_for_node(&pod.spec)
    }
}

impl Shapes {
    /// What `pod` asks, wherever it is: as [`Demand::of`] says, without a node. Of pods that are made of
    /// one template it is worked out once.
    pub(super) fn of(&mut self, pod: &Pod) -> Arc<Demand> {
        let meta = &pod.metadata;
        // Claims of ephemeral volumes are named after each pod.
        let ephemeral = pod.spec.volumes.iter().any(|one| one.ephemeral.is_some());
        let owner = meta.controller().filter(|_| !ephemeral);
        let hash = meta.labels.get(Pod::TEMPLATE_HASH_LABEL);
        let template = owner
            .zip(hash)
            .map(|(owner, hash)| (owner.uid, hash.clone()));
        if let Some(known) = template.as_ref().and_then(|key| self.templates.get(key))
            && known.is_like(pod)
        {
            return Arc::clone(&known.demand);
        }
        // Where it runs is no wish any more.
        let demand = Demand {
            node_name: None,
            ..Demand::of(pod)
        };
        let demand = self.share(Arc::new(demand));
        if let Some(key) = template {
            if self.templates.len() >= TEMPLATES_MAX {
                self.templates.clear();
            }
            let template = Template {
                namespace: meta.namespace.clone(),
                labels: meta.labels.clone(),
                annotations: meta.annotations.clone(),
                spec: pod.spec.clone(),
                demand: Arc::clone(&demand),
            };
            self.templates.insert(key, Arc::new(template));
        }
        demand
    }

    /// The equal demand that is known already, or else this one from now on.
    pub(super) fn share(&mut self, demand: Arc<Demand>) -> Arc<Demand> {
        let mut hash = Words::default();
        (&demand.namespace, &demand.labels, &demand.requests).hash(&mut hash);
        (&demand.node_selector, &demand.relations, &demand.node_name).hash(&mut hash);
        let alike = self.by_hash.entry(hash.finish()).or_default();
        let mut known = alike.iter();
        if let Some(known) = known.find(|known| Arc::ptr_eq(known, &demand) || **known == demand) {
            return Arc::clone(known);
        }
        alike.push(Arc::clone(&demand));
        self.len += 1;
        if self.len >= SWEPT_MIN.max(2 * self.swept) {
            self.sweep();
        }
        demand
    }

    /// Drops the demands that nobody else has.
    fn sweep(&mut self) {
        self.by_hash.retain(|_, alike| {
            alike.retain(|demand| Arc::strong_count(demand) > 1);
            !alike.is_empty()
        });
        self.len = self.by_hash.values().map(Vec::len).sum();
        self.swept = self.len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_demands_are_one_and_those_nobody_has_go() {
        let demand = |cpu_milli: i64| {
            let mut demand = Demand::default();
            demand.requests.cpu_milli = cpu_milli;
            Arc::new(demand)
        };
        let mut shapes = Shapes::default();
        let held = shapes.share(demand(7));
        assert!(Arc::ptr_eq(&held, &shapes.share(demand(7))));
        for cpu in 0..10 * SWEPT_MIN as i64 {
            shapes.share(demand(cpu));
            assert!(shapes.len <= 2 * SWEPT_MIN);
        }
        assert!(Arc::ptr_eq(&held, &shapes.share(demand(7))));
    }

    #[test]
    fn a_template_does_not_speak_for_pods_that_are_not_like_it() {
        use orchestra_core::kind::Container;
        use orchestra_core::kind::pod::Volume;
        use orchestra_core::meta::OwnerReference;

        let mut first = Pod::builder("a")
            .label(Pod::TEMPLATE_HASH_LABEL, "x")
            .container(Container::new("c", "c").cpu_milli(100));
        first.metadata.owner_references = vec![OwnerReference {
            uid: Uid(1),
            controller: Some(true),
            ..OwnerReference::default()
        }];
        let changed = |change: &dyn Fn(&mut Pod)| {
            let mut pod = first.clone();
            pod.metadata.name = "b".into();
            change(&mut pod);
            pod
        };
        let pods = [
            first.clone(),
            changed(&|_| {}),
            changed(&|pod| pod.spec.node_name = "n".into()),
            changed(&|pod| pod.spec.containers[0].image = "d".into()),
            changed(&|pod| drop(pod.metadata.labels.insert("k".into(), "v".into()))),
            changed(&|pod| {
                let needs = orchestra_core::kind::locality::NEEDS_ANNOTATION;
                pod.metadata.annotations.insert(needs.into(), "d".into());
            }),
            changed(&|pod| pod.metadata.namespace = "other".into()),
            changed(&|pod| pod.metadata.owner_references.clear()),
            changed(&|pod| {
                let ephemeral = Some(Default::default());
                let name = "v".into();
                pod.spec.volumes.push(Volume {
                    name,
                    ephemeral,
                    ..Volume::default()
                });
            }),
        ];
        let mut shapes = Shapes::default();
        for before in &pods {
            for pod in &pods {
                shapes.of(before);
                let said = Demand {
                    node_name: None,
                    ..Demand::of(pod)
                };
                assert_eq!(*shapes.of(pod), said, "{pod:#?}");
            }
        }
        let shared = pods[..3].iter().map(|pod| shapes.of(pod));
        let shared: Vec<_> = shared.collect();
        assert!(shared.iter().all(|one| Arc::ptr_eq(one, &shared[0])));
    }
}
