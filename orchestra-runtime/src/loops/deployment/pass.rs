//! One look at a deployment: what there is, what the strategy wants, and what that means pod by
//! pod.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use orchestra_core::int_or::IntOrPercent;
use orchestra_core::kind::{
    ControllerRevision, Deployment, FieldError, Pod, PodTemplateSpec, Resource, StrategyType,
};
use orchestra_core::meta::{ObjectKey, ObjectMeta, Uid};
use orchestra_core::port::store::Revision;
use orchestra_core::time::Timestamp;
use orchestra_sched::health::nodes::add_default_tolerations;
use orchestra_sched::rollout::arithmetic::{OldRevision, Pace, forgettable};
use orchestra_sched::rollout::guard::{Budget, guarded};
use orchestra_sched::rollout::{
    Generation, Memo, Recreate, Replica, RollingUpdate, RolloutAction, RolloutStep,
    RolloutStrategy, RolloutView,
};
use smol_str::{SmolStr, ToSmolStr};

use super::replicas::{Look, Replicas};
use super::{MEMO_ANNOTATION, STEPS_ANNOTATION, started};
use crate::api::{ApiError, Client};

/// Pods started and stopped in one pass; what is left comes in the next.
const PODS_PER_PASS_MAX: usize = 5_000;

/// Old revisions forgotten in one commit.
const FORGOTTEN_PER_STEP_MAX: usize = 10;

/// How many bytes of a pod's name are its deployment's. The hash and a suffix follow.
const NAME_PREFIX_BYTES_MAX: usize = 230;

/// One change of one pod.
pub(super) enum Change {
    Start(Arc<PodTemplateSpec>, SmolStr),
    Stop(Arc<Pod>),
}

/// One look at a deployment.
pub(super) struct Pass<'a> {
    pub(super) deployment: &'a Arc<Deployment>,
    pub(super) revisions: &'a [Arc<ControllerRevision>],
    /// The hash of each revision, and its number as this pass leaves it.
    pub(super) generations: BTreeMap<SmolStr, Generation>,
    pub(super) target: Target<'a>,
    pub(super) replicas: Vec<Replica>,
    /// The commit that last wrote each of them.
    versions: Vec<Revision>,
    /// The worst of the pods that are not ready.
    pub(super) worst: Option<Arc<Pod>>,
    pub(super) memo: Memo,
    pub(super) now: Timestamp,
    /// Why pods that the step wants are not started, if some are not.
    pub(super) refused: Option<String>,
    /// Why the last pod came to a bad end, while it is not replaced yet.
    pub(super) lost: Option<String>,
}

/// The revision to go to.
pub(super) struct Target<'a> {
    pub(super) hash: SmolStr,
    pub(super) generation: Generation,
    /// `None` if it has to be made.
    pub(super) stored: Option<&'a ControllerRevision>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(
        deployment: &'a Arc<Deployment>,
        look: Look,
        revisions: &'a [Arc<ControllerRevision>],
        name_taken: impl Fn(SmolStr) -> bool,
        now: Timestamp,
    ) -> Result<Self, ApiError> {
        let template = serde_json::to_value(&deployment.spec.template).map_err(|error| {
            invalid(
                deployment,
                "spec.template",
                &error.to_string(),
                "write a template of plain JSON",
            )
        })?;
        let newest = revisions
            .iter()
            .map(|revision| revision.revision)
            .max()
            .unwrap_or(0);
        let stored = revisions.iter().find(|revision| revision.data == template);
        let target = match stored {
            Some(stored) => Target {
                hash: hash_of(&stored.metadata),
                // Going back makes an old template the newest again.
                generation: number(if stored.revision < newest {
                    newest.saturating_add(1)
                } else {
                    newest
                }),
                stored: Some(stored),
            },
            None => Target {
                hash: free_hash(&template, |hash| {
                    name_taken(revision_name(&deployment.metadata.name, hash))
                        || revisions.iter().any(|old| hash_of(&old.metadata) == *hash)
                }),
                generation: number(newest.saturating_add(1)),
                stored: None,
            },
        };
        let mut generations: BTreeMap<SmolStr, Generation> = revisions
            .iter()
            .map(|revision| (hash_of(&revision.metadata), number(revision.revision)))
            .collect();
        generations.insert(target.hash.clone(), target.generation);
        // The memo is with the newest revision: the target once there was a step towards it.
        let memo = revisions
            .iter()
            .max_by_key(|revision| revision.revision)
            .and_then(|revision| revision.metadata.annotations.get(MEMO_ANNOTATION))
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        let mut replicas = look.replicas;
        for (replica, hash) in replicas.iter_mut().zip(&look.hashes) {
            replica.generation = match *hash == target.hash {
                true => target.generation,
                false => generations.get(hash).copied().unwrap_or_default(),
            };
        }
        Ok(Self {
            deployment,
            revisions,
            generations,
            target,
            replicas,
            versions: look.versions,
            worst: look.worst,
            memo,
            now,
            refused: None,
            lost: None,
        })
    }

    pub(super) fn step(&self) -> RolloutStep {
        let spec = &self.deployment.spec;
        let wanted = spec.replicas.unwrap_or(1);
        let pace = pace(self.deployment);
        let rolling;
        let strategy: &dyn RolloutStrategy = match pace {
            Pace::Recreate => &Recreate,
            Pace::Rolling {
                max_surge,
                max_unavailable,
                partition,
            } => {
                rolling = RollingUpdate {
                    max_surge,
                    max_unavailable,
                    partition,
                };
                &rolling
            }
        };
        let view = RolloutView {
            target: self.target.generation,
            wanted,
            replicas: &self.replicas,
            memo: &self.memo,
            now: self.now,
            min_ready: Duration::from_secs(spec.min_ready_seconds.into()),
            deadline: spec
                .progress_deadline_seconds
                .map(|seconds| Duration::from_secs(seconds.into())),
            paused: spec.paused,
        };
        guarded(strategy, view, Budget::of(pace, wanted))
    }

    /// The step pod by pod, and whether it was cut short. A pod that is not any more what it was when the
    /// step was decided is left out: that it changed brings another pass.
    pub(super) fn changes(
        &self,
        step: &RolloutStep,
        pods: &Replicas,
    ) -> Result<(Vec<Change>, bool), ApiError> {
        let stops = |action: &RolloutAction| match action {
            RolloutAction::Stop(pod) => Some(*pod),
            _ => None,
        };
        let mut stopped = self.seen(pods, step.actions.iter().filter_map(stops));
        let mut changes = Vec::new();
        for action in &step.actions {
            let left = PODS_PER_PASS_MAX - changes.len();
            match action {
                RolloutAction::Start { generation, count } => {
                    let template = Arc::new(self.template(*generation)?);
                    let hash = self.hash(*generation);
                    let count = usize::try_from(*count).unwrap_or(usize::MAX).min(left);
                    changes
                        .extend((0..count).map(|_| Change::Start(template.clone(), hash.clone())));
                }
                RolloutAction::Stop(uid) if left > 0 => {
                    changes.extend(stopped.remove(uid).map(Change::Stop));
                }
                // Sharing traffic between revisions takes routes that know of revisions.
                _ => {}
            }
        }
        let more = changes.len() == PODS_PER_PASS_MAX;
        Ok((changes, more))
    }

    /// Those `asked` for among `pods` that are as this pass saw them.
    fn seen(
        &self,
        pods: &Replicas,
        asked: impl Iterator<Item = Uid> + Clone,
    ) -> BTreeMap<Uid, Arc<Pod>> {
        if asked.clone().next().is_none() {
            return BTreeMap::new();
        }
        let uids = self.replicas.iter().map(|replica| replica.pod);
        let versions: BTreeMap<Uid, Revision> = uids.zip(self.versions.iter().copied()).collect();
        let now = pods.pods(self.deployment.metadata.uid, asked).into_iter();
        now.filter(|pod| versions.get(&pod.metadata.uid) == Some(&pod.metadata.resource_version))
            .map(|pod| (pod.metadata.uid, pod))
            .collect()
    }

    /// The newest revision, which is `stored` now if it is, as the commit that makes `changes`
    /// leaves it; `None` if it stays as it is.
    pub(super) fn next_target(
        &self,
        stored: Option<&ControllerRevision>,
        memo: &Memo,
        changes: &[Change],
    ) -> Result<Option<ControllerRevision>, ApiError> {
        let text: SmolStr = serde_json::to_string(memo)
            .map_err(|error| {
                invalid(
                    self.deployment,
                    "status",
                    &error.to_string(),
                    "report this as a fault",
                )
            })?
            .into();
        let mut revision = match stored {
            Some(stored) => stored.clone(),
            None => self.new_revision()?,
        };
        let annotations = &mut revision.metadata.annotations;
        let steps: u64 = annotations
            .get(STEPS_ANNOTATION)
            .and_then(|steps| steps.parse().ok())
            .unwrap_or(0);
        let number = i64::try_from(self.target.generation.0).unwrap_or(i64::MAX);
        let unchanged = changes.is_empty()
            && stored.is_some()
            && annotations.get(MEMO_ANNOTATION) == Some(&text)
            && revision.revision == number;
        if unchanged {
            return Ok(None);
        }
        annotations.insert(MEMO_ANNOTATION.into(), text);
        annotations.insert(STEPS_ANNOTATION.into(), (steps + 1).to_smolstr());
        revision.revision = number;
        let starts = changes.iter().any(|c| matches!(c, Change::Start(..)));
        let before = started::last(self.revisions).max(started::told_by(&revision));
        started::note(&mut revision, starts, before);
        Ok(Some(revision))
    }

    pub(super) fn new_revision(&self) -> Result<ControllerRevision, ApiError> {
        let data = serde_json::to_value(&self.deployment.spec.template).map_err(|error| {
            let remedy = "write a template of plain JSON";
            invalid(self.deployment, "spec.template", &error.to_string(), remedy)
        })?;
        let meta = &self.deployment.metadata;
        let mut metadata = ObjectMeta::named(revision_name(&meta.name, &self.target.hash));
        metadata.namespace = meta.namespace.clone();
        metadata.labels = self.deployment.spec.template.metadata.labels.clone();
        metadata
            .labels
            .insert(Pod::TEMPLATE_HASH_LABEL.into(), self.target.hash.clone());
        metadata.owner_references = vec![self.deployment.owner_reference()];
        Ok(ControllerRevision {
            metadata,
            data,
            ..ControllerRevision::default()
        })
    }

    pub(super) fn template(&self, generation: Generation) -> Result<PodTemplateSpec, ApiError> {
        if generation == self.target.generation {
            return Ok(self.deployment.spec.template.clone());
        }
        let found = self
            .revisions
            .iter()
            .find(|revision| number(revision.revision) == generation);
        let data = found
            .map(|revision| revision.data.clone())
            .unwrap_or_default();
        serde_json::from_value(data).map_err(|error| {
            let path = format!("revision {generation}");
            invalid(
                self.deployment,
                &path,
                &error.to_string(),
                "delete that revision",
            )
        })
    }

    pub(super) fn hash(&self, generation: Generation) -> SmolStr {
        let found = self
            .generations
            .iter()
            .find(|(_, number)| **number == generation);
        found.map(|(hash, _)| hash.clone()).unwrap_or_default()
    }

    /// A pod of that template, under a name that is neither `taken` nor among those `drawn`, and then is
    /// one of these.
    pub(super) fn pod(
        &self,
        client: &Client,
        template: &PodTemplateSpec,
        hash: &SmolStr,
        drawn: &mut BTreeSet<SmolStr>,
        taken: impl Fn(&ObjectKey) -> bool,
    ) -> Pod {
        let meta = &self.deployment.metadata;
        let mut pod = template.to_pod();
        let base = format!("{}-{hash}-", prefix(&meta.name));
        pod.metadata.namespace = meta.namespace.clone();
        pod.metadata.name = loop {
            // Among very many pods two random suffixes meet now and then.
            let name = client.ids().name(&base);
            let key = ObjectKey::namespaced(meta.namespace.clone(), name);
            if !taken(&key) && drawn.insert(key.name.clone()) {
                break key.name;
            }
        };
        pod.metadata
            .labels
            .insert(Pod::TEMPLATE_HASH_LABEL.into(), hash.clone());
        pod.metadata.owner_references = vec![self.deployment.owner_reference()];
        add_default_tolerations(&mut pod.spec.tolerations);
        pod
    }

    /// Old revisions that nothing needs any more.
    pub(super) fn forgotten(&self) -> Vec<&Arc<ControllerRevision>> {
        let mut old: Vec<_> = self
            .revisions
            .iter()
            .filter(|revision| hash_of(&revision.metadata) != self.target.hash)
            .collect();
        old.sort_by_key(|revision| revision.revision);
        let states: Vec<OldRevision> = old
            .iter()
            .map(|revision| {
                let generation = number(revision.revision);
                let pods = self
                    .replicas
                    .iter()
                    .filter(|replica| replica.generation == generation)
                    .count();
                OldRevision {
                    wanted: self.memo.sizes.get(&generation).copied().unwrap_or(0),
                    current: u32::try_from(pods).unwrap_or(u32::MAX),
                    deleting: revision.metadata.deletion_timestamp.is_some(),
                }
            })
            .collect();
        forgettable(&states, self.deployment.spec.revision_history_limit)
            .into_iter()
            .take(FORGOTTEN_PER_STEP_MAX)
            .filter_map(|at| old.get(at).copied())
            .collect()
    }
}

pub(super) fn pace(deployment: &Deployment) -> Pace {
    let strategy = &deployment.spec.strategy;
    match strategy.kind {
        StrategyType::Recreate => Pace::Recreate,
        StrategyType::RollingUpdate => {
            let bounds = strategy.rolling_update.clone().unwrap_or_default();
            let quarter = IntOrPercent::Percent(25);
            Pace::rolling(
                bounds.max_surge.unwrap_or(quarter),
                bounds.max_unavailable.unwrap_or(quarter),
            )
        }
    }
}

fn number(revision: i64) -> Generation {
    Generation(u64::try_from(revision).unwrap_or(0))
}

pub(super) fn hash_of(meta: &ObjectMeta) -> SmolStr {
    meta.labels
        .get(Pod::TEMPLATE_HASH_LABEL)
        .cloned()
        .unwrap_or_default()
}

fn revision_name(deployment: &str, hash: &str) -> SmolStr {
    format!("{}-{hash}", prefix(deployment)).into()
}

/// A hash of the template that no other revision has.
fn free_hash(template: &serde_json::Value, taken: impl Fn(&SmolStr) -> bool) -> SmolStr {
    let text = template.to_string();
    (0_u64..)
        .map(|salt| {
            // FNV-1a, in letters and digits that make no words.
            let start = 0xcbf2_9ce4_8422_2325 ^ salt;
            let mut hash = text.bytes().fold(start, |hash: u64, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
            let letters = b"bcdfghjklmnpqrstvwxz2456789";
            (0..10)
                .map(|_| {
                    let letter = letters[usize::try_from(hash % 27).unwrap_or(0)];
                    hash /= 27;
                    char::from(letter)
                })
                .collect::<SmolStr>()
        })
        .find(|hash| !taken(hash))
        .unwrap_or_default()
}

fn prefix(name: &str) -> &str {
    let mut end = name.len().min(NAME_PREFIX_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].trim_end_matches(['-', '.'])
}

fn invalid(deployment: &Deployment, path: &str, problem: &str, remedy: &str) -> ApiError {
    let subject = format!("deployments {}", deployment.key());
    ApiError::invalid(
        "reconcile",
        subject,
        FieldError::new(path, "", problem, remedy),
    )
}
