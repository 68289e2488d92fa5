//! Why a pod is where it is, or nowhere.

use std::fmt;
use std::sync::Arc;

use orchestra_core::kind::Pod;
use orchestra_core::meta::ObjectKey;
use orchestra_sched::explain::{Explanation, Ranking};
use orchestra_sched::place::preempt::Preemption;
use orchestra_sched::place::queue::waits;
use orchestra_sched::place::{Pending, PlanInputs, Scheduler};
use orchestra_sched::rng::PlanRng;
use smol_str::SmolStr;

use super::Orchestra;
use crate::api::ApiError;

/// How a pod stands with its scheduler. `Display` tells it to people.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Standing {
    /// It has a node.
    Placed {
        /// The node.
        node: SmolStr,
        /// How the nodes compare for it now, were it not there; `None` if its scheduler does not rank nodes.
        ranking: Option<Ranking>,
    },
    /// It wants a node, and a plan made now would give it one.
    Next {
        /// The node.
        node: SmolStr,
        /// As above.
        ranking: Option<Ranking>,
    },
    /// It wants a node, and a plan made now would find it none.
    Refused {
        /// What is in the way, and what would help.
        why: Arc<Explanation>,
        /// Where room would be made for it, if it would.
        room: Option<Box<Preemption>>,
    },
    /// It does not want a node before these scheduling gates are taken off.
    Gated(Vec<SmolStr>),
    /// It ended, or is told to, without a node.
    Ends,
}

/// It cannot be told how a pod stands.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ExplainError {
    /// There is no such pod.
    #[error("pods {0} does not exist; list the pods to see which do")]
    NoPod(ObjectKey),
    /// Its scheduler is not in this process.
    #[error(
        "pods {pod} is for scheduler {scheduler:?}, which is not in this process; ask where it runs, or give it \
         with `scheduler_named`"
    )]
    NoScheduler {
        /// The pod.
        pod: ObjectKey,
        /// Its scheduler.
        scheduler: SmolStr,
    },
    /// The pod could not be looked up.
    #[error("the pod could not be looked up")]
    Api(#[from] ApiError),
}

crate::debug_as_report!(ExplainError);

impl Orchestra {
    /// Why a pod of the default namespace is where it is, or nowhere. See [`explain_at`](Self::explain_at).
    ///
    /// ```
    /// use orchestra_runtime::prelude::*;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), BoxError> {
    /// let orchestra = Orchestra::builder()
    ///     .node(Node::new("small").capacity(1_000, 4_096, 10))
    ///     .task("sleepy", |task: TaskContext| async move {
    ///         task.stopping().await;
    ///         Ok(())
    ///     })
    ///     .start()
    ///     .await?;
    /// let sleepy = Container::new("sleepy", "sleepy").request("cpu", "2".parse()?);
    /// orchestra.api::<Pod>().create(Pod::builder("hungry").container(sleepy)).await?;
    /// let standing = orchestra.explain("hungry").await?;
    /// let Standing::Refused { why, .. } = &standing else { panic!("{standing}") };
    /// assert_eq!(why.to_string(), "0/1 nodes fit: 1 lacks cpu (nearest small misses 1)");
    /// assert!(standing.to_string().contains("it would run on small, with 1 more cpu"));
    /// orchestra.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`explain_at`](Self::explain_at).
    pub async fn explain(&self, pod: impl Into<SmolStr>) -> Result<Standing, ExplainError> {
        self.explain_at(&ObjectKey::namespaced("default", pod))
            .await
    }

    /// Why a pod is where it is, or nowhere: what a plan of its scheduler for all pods that wait would say of
    /// it now. The pod is looked up; the cluster around it is as this process knows it, which may not be what was
    /// written a moment ago. Nothing is touched. Cancel-safe.
    ///
    /// It asks about every node, and plans for all that wait: a question for people, not for loops.
    ///
    /// # Errors
    ///
    /// [`ExplainError`] if there is no such pod, if its scheduler is not in this process, or if it could not be
    /// looked up.
    pub async fn explain_at(&self, pod: &ObjectKey) -> Result<Standing, ExplainError> {
        let found = self.client.api::<Pod>().find(pod).await?;
        let found = found.ok_or_else(|| ExplainError::NoPod(pod.clone()))?;
        let gates = &found.spec.scheduling_gates;
        if found.node_name().is_none() && !gates.is_empty() {
            let names = gates.iter().map(|gate| gate.name.clone());
            return Ok(Standing::Gated(names.collect()));
        }
        let name = match found.spec.scheduler_name.as_str() {
            "" => Pod::DEFAULT_SCHEDULER,
            name => name,
        };
        let scheduler = self.scheduler_named(name);
        let scheduler = scheduler.ok_or_else(|| ExplainError::NoScheduler {
            pod: pod.clone(),
            scheduler: name.into(),
        })?;
        let (snapshot, now) = (self.snapshot(), self.client.now());
        let asked = Pending::of(&found, now);
        if let Some(node) = found.node_name() {
            return Ok(Standing::Placed {
                node: node.clone(),
                ranking: scheduler.ranking(&snapshot, &asked, now),
            });
        }
        let pods = self.caches.pods.list();
        let waiting = pods.iter().filter(|pod| waits(pod, name));
        let mut waiting: Vec<Pending> = waiting.map(|pod| Pending::of(pod, now)).collect();
        if waits(&found, name) && !waiting.iter().any(|pod| pod.id == asked.id) {
            waiting.push(asked.clone());
        }
        let rng = PlanRng::new(0);
        let plan = scheduler.plan(&snapshot, &waiting, PlanInputs { now, rng });
        if let Some(placed) = plan.placed.into_iter().find(|one| one.pod == asked.id) {
            return Ok(Standing::Next {
                node: placed.node,
                ranking: scheduler.ranking(&snapshot, &asked, now),
            });
        }
        let refused = plan.unplaced.into_iter().find(|one| one.pod == asked.id);
        let mut rooms = plan.preemptions.into_iter();
        let room = rooms.find(|room| room.pod == asked.id).map(Box::new);
        Ok(match refused {
            Some(refused) => Standing::Refused {
                why: refused.why,
                room,
            },
            None => Standing::Ends,
        })
    }

    fn scheduler_named(&self, name: &str) -> Option<&Arc<dyn Scheduler>> {
        match name {
            Pod::DEFAULT_SCHEDULER => Some(&self.scheduler),
            _ => self.schedulers.get(name),
        }
    }
}

impl fmt::Display for Standing {
    /// A line, or several: what [`Ranking`] or [`Explanation`] says, behind where it is or would be.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranked = |f: &mut fmt::Formatter<'_>, ranking: &Option<Ranking>| match ranking {
            Some(ranking) => write!(f, ": {ranking}"),
            None => f.write_str("; its scheduler does not say why"),
        };
        match self {
            Self::Placed { node, ranking } => {
                write!(f, "has node {node}")?;
                ranked(f, ranking)
            }
            Self::Next { node, ranking } => {
                write!(f, "would be given node {node} now")?;
                ranked(f, ranking)
            }
            Self::Refused { why, room } => {
                write!(f, "finds no node: {}", why.report())?;
                match room {
                    Some(room) => write!(f, "\n{room}"),
                    None => Ok(()),
                }
            }
            Self::Gated(gates) => {
                let gates = gates.join(", ");
                write!(f, "waits until its scheduling gates are taken off: {gates}")
            }
            Self::Ends => f.write_str("ends, and wants no node"),
        }
    }
}
