//! Rolling updates: the sums of `orchestra_sched::rollout::arithmetic`.

use std::collections::BTreeMap;
use std::time::Duration;

use orchestra_core::int_or::{IntOrPercent, Rounding};
use orchestra_core::kind::{DeploymentStrategy, RollingUpdate, StrategyType};
use orchestra_sched::rollout::arithmetic::{
    Counts, OldRevision, Pace, ScaledSet, SetState, cleanup_unhealthy, forgettable, new_set_size,
    reconcile_new, reconcile_old, scale_down_old, scaled_sizes, timed_out,
};
use serde::Deserialize;
use serde_json::Value;

use super::{Check, Complaint, read, same};

pub(super) fn check_for(section: &str) -> Option<Check> {
    Some(match section {
        "resolve_fenceposts" => fenceposts,
        "max_unavailable" => max_unavailable,
        "new_replicaset_size" => new_replicaset_size,
        "reconcile_new" => new_set,
        "reconcile_old" => old_set,
        "cleanup_unhealthy" => cleanup,
        "scale_down_old" => scale_down,
        "proportional_scaling" => proportional,
        "deployment_complete" => complete,
        "deployment_progressing" => progressing,
        "deployment_timed_out" => deadline,
        "revision_history_cleanup" => history,
        "partition_new_replicas" => partition_new,
        "partition_old_replicas" => partition_old,
        "int_or_percent_rounding" => rounding,
        _ => return None,
    })
}

/// The fields by which most rows describe a deployment and its sets.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Situation {
    strategy: StrategyType,
    max_surge: Option<IntOrPercent>,
    max_unavailable: Option<IntOrPercent>,
    partition: Option<IntOrPercent>,
    #[serde(alias = "replicas", alias = "desired")]
    deployment_replicas: u32,
    new_replicas: u32,
    new_available: u32,
    old_replicas: Sizes,
    old_available: Sizes,
    old_replicas_total: u32,
}

/// One old set, or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Sizes {
    One(u32),
    Many(Vec<u32>),
}

impl Default for Sizes {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Sizes {
    fn list(&self) -> Vec<u32> {
        match self {
            Self::One(size) => vec![*size],
            Self::Many(sizes) => sizes.clone(),
        }
    }
}

impl Situation {
    fn pace(&self) -> Pace {
        let rolling_update = RollingUpdate {
            max_unavailable: self.max_unavailable,
            max_surge: self.max_surge,
        };
        let strategy = DeploymentStrategy {
            kind: self.strategy,
            rolling_update: Some(rolling_update),
        };
        match (Pace::from(&strategy), self.partition) {
            (
                Pace::Rolling {
                    max_surge,
                    max_unavailable,
                    ..
                },
                partition,
            ) => Pace::Rolling {
                max_surge,
                max_unavailable,
                partition,
            },
            (recreate, _) => recreate,
        }
    }

    fn new_set(&self) -> SetState {
        SetState {
            size: self.new_replicas,
            available: self.new_available,
        }
    }

    fn old_sets(&self) -> Vec<SetState> {
        let available = self.old_available.list();
        let available = available.into_iter().chain(std::iter::repeat(0));
        let sizes = self.old_replicas.list().into_iter();
        sizes
            .zip(available)
            .map(|(size, available)| SetState { size, available })
            .collect()
    }
}

/// Whether a set was scaled, and to what; what it is then counts only if it was.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScaledTo {
    scaled: bool,
    #[serde(alias = "newReplicas", alias = "oldReplicas", default)]
    replicas: Option<u32>,
}

fn same_scaling(row: &Value, before: u32, after: u32) -> Result<(), Complaint> {
    let expected: ScaledTo = read(&row["expect"])?;
    if let (true, Some(replicas)) = (expected.scaled, expected.replicas) {
        same(&replicas, &after)?;
    }
    same(&expected.scaled, &(before != after))
}

fn total(sizes: &[u32]) -> u32 {
    sizes.iter().sum()
}

fn fenceposts(row: &Value) -> Result<(), Complaint> {
    #[derive(Debug, Deserialize, PartialEq)]
    struct Expected {
        surge: u32,
        unavailable: u32,
        error: bool,
    }
    let expected: Expected = read(&row["expect"])?;
    let desired: u32 = read(&row["desired"])?;
    let limit = |key: &str| Option::<IntOrPercent>::deserialize(&row[key]);
    let got = match (limit("maxSurge"), limit("maxUnavailable")) {
        (Ok(max_surge), Ok(max_unavailable)) => {
            let situation = Situation {
                max_surge,
                max_unavailable,
                ..Situation::default()
            };
            let posts = situation.pace().fenceposts(desired);
            Expected {
                surge: posts.surge,
                unavailable: posts.unavailable,
                error: false,
            }
        }
        _ => Expected {
            surge: 0,
            unavailable: 0,
            error: true,
        },
    };
    same(&expected, &got)
}

fn max_unavailable(row: &Value) -> Result<(), Complaint> {
    let situation: Situation = read(row)?;
    let got = situation
        .pace()
        .max_unavailable(situation.deployment_replicas);
    same(&read(&row["expect"])?, &got)
}

fn new_replicaset_size(row: &Value) -> Result<(), Complaint> {
    let situation: Situation = read(row)?;
    let total = situation.new_replicas + situation.old_replicas_total;
    let wanted = situation.deployment_replicas;
    let got = new_set_size(situation.pace(), wanted, situation.new_replicas, total);
    same(&read(&row["expect"])?, &got)
}

fn new_set(row: &Value) -> Result<(), Complaint> {
    let situation: Situation = read(row)?;
    let (wanted, new) = (situation.deployment_replicas, situation.new_replicas);
    let old = total(&situation.old_replicas.list());
    same_scaling(row, new, reconcile_new(situation.pace(), wanted, new, old))
}

fn old_set(row: &Value) -> Result<(), Complaint> {
    let situation: Situation = read(row)?;
    let old = situation.old_sets();
    let wanted = situation.deployment_replicas;
    let sizes = reconcile_old(situation.pace(), wanted, situation.new_set(), &old);
    same_scaling(row, total(&situation.old_replicas.list()), total(&sizes))
}

fn cleanup(row: &Value) -> Result<(), Complaint> {
    let situation: Situation = read(row)?;
    let before = total(&situation.old_replicas.list());
    let after = total(&cleanup_unhealthy(
        &situation.old_sets(),
        read(&row["maxCleanup"])?,
    ));
    same(&read(&row["expect"]["cleaned"])?, &(before - after))
}

fn scale_down(row: &Value) -> Result<(), Complaint> {
    let situation: Situation = read(row)?;
    let available: u32 = read(&row["availablePods"])?;
    let wanted = situation.deployment_replicas;
    let sizes = scale_down_old(situation.pace(), wanted, available, &situation.old_sets());
    same_scaling(row, total(&situation.old_replicas.list()), total(&sizes))
}

fn proportional(row: &Value) -> Result<(), Complaint> {
    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Set {
        name: String,
        replicas: u32,
        #[serde(default)]
        available: u32,
        is_new: bool,
        recorded_max_replicas: Option<u32>,
    }
    let before: Situation = read(&row["before"])?;
    let after: Situation = read(&row["after"])?;
    let sets: Vec<Set> = read(&row["replicaSetsNewestFirst"])?;
    let surge = before.pace().fenceposts(before.deployment_replicas).surge;
    let states: Vec<ScaledSet> = sets
        .iter()
        .map(|set| ScaledSet {
            state: SetState {
                size: set.replicas,
                available: set.available,
            },
            new: set.is_new,
            recorded_wanted: set
                .recorded_max_replicas
                .map(|max| max.saturating_sub(surge)),
            recorded_max: set.recorded_max_replicas,
        })
        .collect();
    let sizes = scaled_sizes(after.pace(), after.deployment_replicas, &states);
    let got: BTreeMap<String, u32> = sets.into_iter().map(|set| set.name).zip(sizes).collect();
    same(&read(&row["expect"])?, &got)
}

fn complete(row: &Value) -> Result<(), Complaint> {
    let counts: Counts = read(row)?;
    same(
        &read(&row["expect"])?,
        &counts.complete(read(&row["desired"])?),
    )
}

fn progressing(row: &Value) -> Result<(), Complaint> {
    let (before, after): (Counts, Counts) = (read(&row["before"])?, read(&row["after"])?);
    same(&read(&row["expect"])?, &after.progress_since(before))
}

fn deadline(row: &Value) -> Result<(), Complaint> {
    let deadline: Option<u64> = read(&row["progressDeadlineSeconds"])?;
    let since: Option<u64> = read(&row["secondsSinceLastProgress"])?;
    let complete: bool = read(&row["alreadyComplete"])?;
    let since = Duration::from_secs(since.unwrap_or(0));
    let got = timed_out(deadline.map(Duration::from_secs), since, complete);
    same(&read(&row["expect"])?, &got)
}

fn history(row: &Value) -> Result<(), Complaint> {
    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Set {
        spec_replicas: u32,
        status_replicas: u32,
        #[serde(
            default,
            alias = "deleted",
            alias = "alreadyDeleted",
            alias = "beingDeleted",
            alias = "deletionTimestamp",
            alias = "deletionTimestampSet",
            alias = "terminating"
        )]
        deleting: Value,
    }
    let sets: Vec<Set> = read(&row["oldReplicaSets"])?;
    let old: Vec<OldRevision> = sets
        .iter()
        .map(|set| OldRevision {
            wanted: set.spec_replicas,
            current: set.status_replicas,
            deleting: !matches!(set.deleting, Value::Null | Value::Bool(false)),
        })
        .collect();
    let got = forgettable(&old, read(&row["revisionHistoryLimit"])?).len();
    same(&read(&row["expect"]["deletions"])?, &got)
}

fn partition_new(row: &Value) -> Result<(), Complaint> {
    let situation: Situation = read(row)?;
    let old = total(&situation.old_replicas.list());
    let (wanted, new) = (situation.deployment_replicas, situation.new_replicas);
    same(
        &read(&row["expect"])?,
        &reconcile_new(situation.pace(), wanted, new, old),
    )
}

fn partition_old(row: &Value) -> Result<(), Complaint> {
    let situation: Situation = read(row)?;
    let wanted = situation.deployment_replicas;
    let old = situation.old_sets();
    let sizes = reconcile_old(situation.pace(), wanted, situation.new_set(), &old);
    same(&read(&row["expectOldTotal"])?, &total(&sizes))
}

fn rounding(row: &Value) -> Result<(), Complaint> {
    let rounding = if read(&row["roundUp"])? {
        Rounding::Up
    } else {
        Rounding::Down
    };
    let total = read(&row["total"])?;
    let value = IntOrPercent::deserialize(&row["value"]);
    // A row without a number says that the value is refused.
    let expected = row["expect"].as_u64();
    same(
        &expected,
        &value
            .ok()
            .map(|value| value.resolve(total, rounding).into()),
    )
}
