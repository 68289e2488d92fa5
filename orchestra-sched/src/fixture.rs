//! Clusters written as a few lines of text, for tests of schedulers and plugins.
//!
//! ```
//! use orchestra_sched::fixture::Cluster;
//!
//! let cluster: Cluster = "
//!     node small*2 cpu=2 memory=4Gi zone=a
//!     node big cpu=8 memory=32Gi example.com/gpu=2 taint=dedicated=gpu:NoSchedule
//!     pod db on=small-1 cpu=1500m memory=1Gi port=5432
//!     pod web*3 cpu=500m memory=1Gi label=app=web select=disk=ssd tolerate=dedicated=gpu priority=5
//! ".parse()?;
//! assert_eq!((cluster.nodes.len(), cluster.pods.len()), (3, 4));
//! assert_eq!(cluster.snapshot().len(), 3);
//! assert_eq!(cluster.pending().len(), 3);
//! # Ok::<(), orchestra_sched::fixture::FixtureError>(())
//! ```
//!
//! A line is a node or a pod, its name, and words. `name*3` stands for `name-1` to `name-3`. Empty
//! lines and what follows a `#` do not count. What cannot be meant is an error that names line and word: a
//! word that undoes or repeats another of its line, a name that is taken, a pod on a node that is not there
//! (but in a text without any node: its pods are for nodes that are elsewhere).
//!
//! | word | on a node | on a pod |
//! |---|---|---|
//! | `cpu=`, `memory=`, `ephemeral-storage=`, `example.com/gpu=` | has | requests |
//! | `pods=` | takes so many, 110 if not said | |
//! | `label=key=value` | has | has |
//! | `zone=a` | is there | |
//! | `taint=key=value:Effect` | has | |
//! | `closed` | to new pods | |
//! | `on=node` | | runs there; without it the pod is pending |
//! | `select=key=value` | | wants a node with that label |
//! | `tolerate=key=value:Effect` | | tolerates; without value or effect, any |
//! | `port=8080` | | takes that TCP port of its node |
//! | `devices=2` | has so many accelerators | asks for so many |
//! | `model=T4` | of that model | |
//! | `models=T4|P100` | | wants one of these models |
//! | `share=330` | | wants so many thousandths of each, 1000 if not said |
//! | `priority=5` | | has |
//! | `image=shop:7=300Mi`, `image=shop:7` | has, of that size | runs |
//! | `data=orders=120Gi`, `data=orders` | has, so much of it | wants near |
//! | `namespace=team` | | is there, not in `default` |
//! | `spread=zone:1:app=web` | | with a skew of at most 1 among pods `app=web` |
//! | `near=zone:app=db`, `apart=host:app=web` | | must, and must not, be near such pods |
//! | `prefer-spread=`, `prefer-near=`, `prefer-apart=` | | the same, if possible |
//!
//! `zone` and `host` stand for the labels that name a node's zone and the node; any other label may
//! stand there too.

use std::collections::BTreeSet;
use std::str::FromStr;

use orchestra_core::kind::accelerator;
use orchestra_core::kind::pod::{
    Container, ContainerPort, PodAffinityTerm, Toleration, TopologySpreadConstraint,
    WeightedPodAffinityTerm, WhenUnsatisfiable,
};
use orchestra_core::kind::{ContainerImage, Node, Pod, Taint, TaintEffect, locality};
use orchestra_core::meta::Uid;
use orchestra_core::port::store::Revision;
use orchestra_core::quantity::Quantity;
use orchestra_core::selector::LabelSelector;
use orchestra_core::time::Timestamp;
use smol_str::{SmolStr, format_smolstr};

use crate::place::Pending;
use crate::snapshot::{Snapshot, SnapshotBuilder};

/// The most nodes or pods that one line may stand for.
pub const REPEAT_MAX: usize = 100_000;

/// Nodes and pods, in the order they were written. The n-th pod has uid n and was created n
/// seconds after the epoch.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The pods, with and without a node.
    pub pods: Vec<Pod>,
}

impl Cluster {
    /// Follows these nodes and pods.
    pub fn builder(&self) -> SnapshotBuilder {
        let mut builder = SnapshotBuilder::new();
        for node in &self.nodes {
            builder.apply_node(node);
        }
        for pod in &self.pods {
            builder.apply_pod(pod);
        }
        builder
    }

    /// The cluster at revision 1.
    pub fn snapshot(&self) -> Snapshot {
        self.builder().snapshot(Revision(1))
    }

    /// The pods without a node.
    pub fn pending(&self) -> Vec<Pending> {
        let unbound = self.pods.iter().filter(|pod| pod.node_name().is_none());
        unbound
            .map(|pod| Pending::of(pod, Timestamp::EPOCH))
            .collect()
    }
}

/// A line that cannot be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("line {line}: {word:?} {problem}")]
pub struct FixtureError {
    /// The line, from 1.
    pub line: usize,
    /// The word in it.
    pub word: String,
    /// What is wrong with it, and what to write instead.
    pub problem: &'static str,
}

impl FromStr for Cluster {
    type Err = FixtureError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut cluster = Self::default();
        let (mut nodes, mut pods) = (BTreeSet::new(), BTreeSet::new());
        // Where pods run, to be looked up once all nodes are there.
        let mut homes = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let mut words = line.split('#').next().unwrap_or("").split_whitespace();
            let Some(kind) = words.next() else { continue };
            let wrong = |(word, problem): (&str, &'static str)| FixtureError {
                line: at + 1,
                word: word.to_owned(),
                problem,
            };
            let word = words
                .next()
                .ok_or_else(|| wrong((kind, "needs a name behind it")))?;
            let names = names(word).map_err(wrong)?;
            let taken = || wrong((word, "is there already; choose another name"));
            let words: Vec<&str> = words.collect();
            said_once(kind, &words).map_err(wrong)?;
            match kind {
                "node" => {
                    for name in names {
                        if !nodes.insert(name.clone()) {
                            return Err(taken());
                        }
                        cluster.nodes.push(node(&name, &words).map_err(wrong)?);
                    }
                }
                "pod" => {
                    homes.extend(words.iter().filter_map(|word| {
                        let node = word.strip_prefix("on=")?;
                        Some((
                            node,
                            wrong((word, "is no node here; write one's name, or add it")),
                        ))
                    }));
                    for name in names {
                        let mut pod = pod(&name, &words).map_err(wrong)?;
                        if !pods.insert(pod.metadata.key()) {
                            return Err(taken());
                        }
                        let nth = cluster.pods.len() + 1;
                        pod.metadata.uid = Uid(nth as u128);
                        pod.metadata.creation_timestamp = Some(Timestamp::from_secs(nth as i64));
                        cluster.pods.push(pod);
                    }
                }
                _ => return Err(wrong((kind, "is no kind; write node or pod"))),
            }
        }
        // Pods alone are for nodes that are elsewhere.
        let lost = homes
            .into_iter()
            .find(|(node, _)| !nodes.is_empty() && !nodes.contains(*node));
        match lost {
            Some((_, lost)) => Err(lost),
            None => Ok(cluster),
        }
    }
}

type Wrong<'a> = (&'a str, &'static str);

/// What a name and its repetition stand for.
fn names(word: &str) -> Result<Vec<String>, Wrong<'_>> {
    let Some((name, times)) = word.split_once('*') else {
        return Ok(vec![word.to_owned()]);
    };
    match times.parse::<usize>() {
        Ok(times @ 1..=REPEAT_MAX) => Ok((1..=times).map(|nth| format!("{name}-{nth}")).collect()),
        _ => Err((
            word,
            "does not say how often; write name*3, from 1 to 100000",
        )),
    }
}

/// Refuses words of which the later would undo or repeat an earlier one.
fn said_once<'a>(kind: &str, words: &[&'a str]) -> Result<(), Wrong<'a>> {
    let mut said = BTreeSet::new();
    for &word in words {
        let what = match split(word) {
            ("label" | "select", Some(label)) => {
                let key = label.split_once('=').map_or(label, |(key, _)| key);
                &word[..word.len() - label.len() + key.len()]
            }
            ("image", _) if kind == "pod" => "image",
            ("image" | "data" | "taint" | "tolerate" | "port", _) => word,
            ("spread" | "near" | "apart", _) => word,
            ("prefer-spread" | "prefer-near" | "prefer-apart", _) => word,
            ("devices", _) => accelerator::RESOURCE,
            (what, _) => what,
        };
        if !said.insert(what) {
            return Err((
                word,
                "was said before on this line; leave one of the two out",
            ));
        }
    }
    Ok(())
}

fn node<'a>(name: &str, words: &[&'a str]) -> Result<Node, Wrong<'a>> {
    let mut node = Node::new(name).resource("pods", Quantity::from_int(110));
    for &word in words {
        node = match split(word) {
            ("closed", None) => {
                node.spec.unschedulable = true;
                node
            }
            ("zone", Some(zone)) => node.zone(zone),
            ("devices", Some(count)) => {
                node.resource(accelerator::RESOURCE, quantity(word, count)?)
            }
            ("model", Some(model)) => node.label(accelerator::MODEL_LABEL, model),
            ("label", Some(label)) => {
                let (key, value) = pair(word, label)?;
                node.label(key, value)
            }
            ("image", Some(image)) => {
                let (name, size) = sized(word, image)?;
                node.status.images.push(ContainerImage {
                    names: vec![name.into()],
                    size_bytes: size.as_int(),
                });
                node
            }
            ("data", Some(data)) => {
                let (name, size) = sized(word, data)?;
                let annotations = &mut node.metadata.annotations;
                let known = annotations
                    .entry(locality::DATA_ANNOTATION.into())
                    .or_default();
                *known = format_smolstr!("{known},{name}={size}");
                node
            }
            ("taint", Some(taint)) => {
                let (key, value, effect) = taint_parts(word, taint)?;
                let effect =
                    effect.ok_or((word, "has no effect; write taint=key=value:NoSchedule"))?;
                node.taint(Taint {
                    value: value.into(),
                    ..Taint::new(key, effect)
                })
            }
            (resource, Some(amount)) if is_resource(resource) || resource == "pods" => {
                node.resource(resource, quantity(word, amount)?)
            }
            _ => return Err((word, "is no word for a node")),
        };
    }
    Ok(node)
}

fn pod<'a>(name: &str, words: &[&'a str]) -> Result<Pod, Wrong<'a>> {
    let mut pod = Pod::builder(name).namespace("default");
    let mut main = Container::new("main", "main");
    for &word in words {
        match split(word) {
            ("on", Some(node)) => pod = pod.on_node(node),
            ("namespace", Some(namespace)) => pod = pod.namespace(namespace),
            ("image", Some(image)) => main.image = image.into(),
            ("data", Some(name)) => {
                let annotations = &mut pod.metadata.annotations;
                let known = annotations
                    .entry(locality::WANTS_ANNOTATION.into())
                    .or_default();
                *known = format_smolstr!("{known},{name}");
            }
            ("spread" | "prefer-spread", Some(rule)) => {
                let rule = spread(word, rule)?;
                pod.spec.topology_spread_constraints.push(rule);
            }
            ("near" | "apart" | "prefer-near" | "prefer-apart", Some(term)) => {
                relate(&mut pod, word, term)?;
            }
            ("priority", Some(priority)) => {
                let priority = priority.parse().map_err(|_| (word, "is no whole number"))?;
                pod = pod.priority(priority);
            }
            ("devices", Some(count)) => {
                request(&mut main, accelerator::RESOURCE, quantity(word, count)?);
            }
            ("models", Some(models)) => {
                pod = pod.annotation(accelerator::MODELS_ANNOTATION, models);
            }
            ("share", Some(milli)) => {
                pod = pod.annotation(accelerator::MILLI_ANNOTATION, milli);
            }
            ("label", Some(label)) => {
                let (key, value) = pair(word, label)?;
                pod = pod.label(key, value);
            }
            ("select", Some(label)) => {
                let (key, value) = pair(word, label)?;
                pod = pod.node_selector(key, value);
            }
            ("tolerate", Some(taint)) => {
                let (key, value, effect) = taint_parts(word, taint)?;
                let toleration = match value {
                    "" => Toleration::exists(key),
                    _ => Toleration::equal(key, value),
                };
                pod = pod.toleration(Toleration {
                    effect,
                    ..toleration
                });
            }
            ("port", Some(port)) => {
                let port = port
                    .parse()
                    .map_err(|_| (word, "is no port; write 1 to 65535"))?;
                main.ports.push(ContainerPort {
                    container_port: port,
                    host_port: port,
                    ..ContainerPort::default()
                });
            }
            (resource, Some(amount)) if is_resource(resource) => {
                request(&mut main, resource, quantity(word, amount)?);
            }
            _ => return Err((word, "is no word for a pod")),
        }
    }
    Ok(pod.container(main))
}

/// What cannot be overcommitted is limited to what is requested, as the API wants it.
fn request(container: &mut Container, resource: &str, amount: Quantity) {
    let resources = &mut container.resources;
    if resource.contains('/') {
        resources.limits.insert(resource.into(), amount);
    }
    resources.requests.insert(resource.into(), amount);
}

/// A name and an amount behind its last `=`.
fn sized<'a>(word: &'a str, text: &'a str) -> Result<(&'a str, Quantity), Wrong<'a>> {
    let (name, size) = text
        .rsplit_once('=')
        .ok_or((word, "has no size; write name=300Mi"))?;
    Ok((name, quantity(word, size)?))
}

fn topology(key: &str) -> SmolStr {
    match key {
        "zone" => Node::ZONE_LABEL.into(),
        "host" => Node::HOSTNAME_LABEL.into(),
        other => other.into(),
    }
}

fn selector<'a>(word: &'a str, text: &str) -> Result<Option<LabelSelector>, Wrong<'a>> {
    let selector = text
        .parse()
        .map_err(|_| (word, "selects no pods; write for instance app=web"))?;
    Ok(Some(selector))
}

fn spread<'a>(word: &'a str, rule: &str) -> Result<TopologySpreadConstraint, Wrong<'a>> {
    let wrong = (word, "is no spread; write spread=zone:1:app=web");
    let (key, rest) = rule.split_once(':').ok_or(wrong)?;
    let (skew, pods) = rest.split_once(':').ok_or(wrong)?;
    Ok(TopologySpreadConstraint {
        max_skew: skew.parse().map_err(|_| wrong)?,
        topology_key: topology(key),
        when_unsatisfiable: if word.starts_with("prefer-") {
            WhenUnsatisfiable::ScheduleAnyway
        } else {
            WhenUnsatisfiable::DoNotSchedule
        },
        label_selector: selector(word, pods)?,
        ..TopologySpreadConstraint::default()
    })
}

/// Adds an affinity or anti-affinity; a preferred one weighs 100.
fn relate<'a>(pod: &mut Pod, word: &'a str, term: &str) -> Result<(), Wrong<'a>> {
    let wrong = (word, "names no pods; write near=zone:app=db");
    let (key, pods) = term.split_once(':').ok_or(wrong)?;
    let term = PodAffinityTerm {
        topology_key: topology(key),
        label_selector: selector(word, pods)?,
        ..PodAffinityTerm::default()
    };
    let affinity = pod.spec.affinity.get_or_insert_default();
    let (kind, _) = split(word);
    let side = match kind.trim_start_matches("prefer-") {
        "near" => affinity.pod_affinity.get_or_insert_default(),
        _ => affinity.pod_anti_affinity.get_or_insert_default(),
    };
    if kind.starts_with("prefer-") {
        side.preferred.push(WeightedPodAffinityTerm {
            weight: 100,
            pod_affinity_term: term,
        });
    } else {
        side.required.push(term);
    }
    Ok(())
}

fn split(word: &str) -> (&str, Option<&str>) {
    word.split_once('=')
        .map_or((word, None), |(key, value)| (key, Some(value)))
}

fn is_resource(word: &str) -> bool {
    matches!(word, "cpu" | "memory" | "ephemeral-storage") || word.contains('/')
}

fn quantity<'a>(word: &'a str, amount: &str) -> Result<Quantity, Wrong<'a>> {
    let wrong = (word, "is no amount; write 500m, 2 or 4Gi");
    let amount: Quantity = amount.parse().map_err(|_| wrong)?;
    match amount.is_negative() {
        true => Err(wrong),
        false => Ok(amount),
    }
}

fn pair<'a>(word: &'a str, label: &'a str) -> Result<(&'a str, &'a str), Wrong<'a>> {
    label
        .split_once('=')
        .ok_or((word, "has no value; write label=key=value"))
}

/// Key, value and effect of `key=value:Effect`, of which the last two may be left out.
fn taint_parts<'a>(
    word: &'a str,
    taint: &'a str,
) -> Result<(&'a str, &'a str, Option<TaintEffect>), Wrong<'a>> {
    let (rest, effect) = match taint.rsplit_once(':') {
        Some((rest, "NoSchedule")) => (rest, Some(TaintEffect::NoSchedule)),
        Some((rest, "PreferNoSchedule")) => (rest, Some(TaintEffect::PreferNoSchedule)),
        Some((rest, "NoExecute")) => (rest, Some(TaintEffect::NoExecute)),
        Some(_) => {
            return Err((
                word,
                "has no such effect; write NoSchedule, PreferNoSchedule or NoExecute",
            ));
        }
        None => (taint, None),
    };
    let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
    Ok((key, value, effect))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_named_by_line_and_word() {
        for (text, line, word) in [
            ("node a\nnod b", 2, "nod"),
            ("pod", 1, "pod"),
            ("node a cpu=x", 1, "cpu=x"),
            ("node a*0x", 1, "a*0x"),
            ("\n# nothing\nnode a taint=k=v", 3, "taint=k=v"),
            ("pod a port=70000", 1, "port=70000"),
            ("pod a closed", 1, "closed"),
            ("pod a spread=zone:x:app=a", 1, "spread=zone:x:app=a"),
            ("pod a near=zone", 1, "near=zone"),
            ("pod a apart=zone:a b", 1, "b"),
            ("pod a apart=zone:=", 1, "apart=zone:="),
            ("node a image=shop", 1, "image=shop"),
            ("node a cpu=-1", 1, "cpu=-1"),
            ("node a*3\nnode a-2", 2, "a-2"),
            ("pod a\npod a namespace=b\npod a", 3, "a"),
            ("pod p*0", 1, "p*0"),
            ("node a\npod p on=aa\npod q on=a", 2, "on=aa"),
            ("pod p on=b\nnode a", 1, "on=b"),
            ("node a cpu=1 cpu=2", 1, "cpu=2"),
            ("pod p cpu=1 memory=1Gi cpu=1", 1, "cpu=1"),
            ("pod p on=a on=b\nnode a\nnode b", 1, "on=b"),
            ("pod p image=a image=b", 1, "image=b"),
            ("node a closed closed", 1, "closed"),
            ("pod p label=a=1 label=b=1 label=a=2", 1, "label=a=2"),
            (
                "node a zone=b taint=t:NoSchedule taint=t:NoSchedule",
                1,
                "taint=t:NoSchedule",
            ),
        ] {
            let error = text.parse::<Cluster>().expect_err(text);
            assert_eq!((error.line, error.word.as_str()), (line, word), "{error}");
        }
    }

    #[test]
    fn what_can_be_said_several_times_is() {
        let text = "
            node a label=x=1 label=y=1 taint=t:NoSchedule taint=t:NoExecute image=i=1Mi image=j=1Mi
            pod p on=a port=80 port=81 select=x=1 select=y=1 tolerate=t near=zone:a=b near=host:a=b";
        let cluster: Cluster = text.parse().expect("as written");
        let (node, pod) = (&cluster.nodes[0], &cluster.pods[0]);
        assert_eq!((node.spec.taints.len(), node.status.images.len()), (2, 2));
        let ports = &pod.spec.containers[0].ports;
        assert_eq!((ports.len(), pod.spec.node_selector.len()), (2, 2));
        // A pod may stand before its node, and without any node.
        for text in ["pod p on=a\nnode a", "pod p on=a"] {
            let cluster: Cluster = text.parse().expect("as written");
            assert_eq!(cluster.pods[0].node_name().map(|node| &**node), Some("a"));
        }
    }
}
