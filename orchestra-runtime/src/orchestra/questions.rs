//! The cluster as plans see it, and what would happen to it if.

use std::sync::Arc;

use orchestra_sched::place::{PlanInputs, Scheduler};
use orchestra_sched::rng::PlanRng;
use orchestra_sched::snapshot::{Snapshot, SnapshotBuilder};
use orchestra_sched::whatif::{Answer, Question, QuestionError};

use super::Orchestra;

impl Orchestra {
    /// The cluster as plans see it: nodes and what runs there, namespaces and disruption budgets, as this
    /// process knows them now. For [`headroom`](orchestra_sched::whatif::headroom),
    /// [`weak_spots`](orchestra_sched::whatif::weak_spots), [moves](orchestra_sched::rebalance::pods) and a
    /// scheduler's own plans. What a builder was told beside the store (where claims can be used) is not in it.
    ///
    /// Made anew each time: it takes a look at every node and pod.
    pub fn snapshot(&self) -> Snapshot {
        let mut builder = SnapshotBuilder::new();
        for namespace in self.caches.namespaces.list() {
            builder.apply_namespace(&namespace);
        }
        for budget in self.caches.budgets.list() {
            builder.apply_budget(&budget);
        }
        let base = self.caches.nodes.through();
        for node in self.caches.nodes.list() {
            builder.apply_node(&node);
        }
        for pod in self.caches.pods.list() {
            builder.apply_pod(&pod);
        }
        builder.snapshot(base)
    }

    /// The scheduler of pods that name none: a pure function, that can be asked for plans which nobody
    /// carries out.
    pub fn scheduler(&self) -> &Arc<dyn Scheduler> {
        &self.scheduler
    }

    /// What would happen if: asked of the cluster as it is now and of the [scheduler](Self::scheduler) that
    /// would be asked then; among nodes that are equal to it chance may choose another. Nothing is touched. The answer may take a second of this thread where it
    /// moves hundreds of thousands of pods: ask on a thread that may block then.
    ///
    /// [Quotas](orchestra_core::kind::ResourceQuota) are not counted, as a plan does not know them: where one allows
    /// four pods of a deployment of twenty, the API creates four, and the answer speaks of twenty.
    ///
    /// ```
    /// use orchestra_runtime::prelude::*;
    /// use orchestra_sched::whatif::Question;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), BoxError> {
    /// let orchestra = Orchestra::builder()
    ///     .node(Node::new("a").capacity(4_000, 8_192, 10))
    ///     .node(Node::new("b").capacity(2_000, 8_192, 10))
    ///     .task("sleepy", |task: TaskContext| async move {
    ///         task.stopping().await;
    ///         Ok(())
    ///     })
    ///     .start()
    ///     .await?;
    /// let sleepy = Container::new("sleepy", "sleepy").request("cpu", "1".parse()?);
    /// let sleepy = |replicas| Deployment::new("sleepy").replicas(replicas).container(sleepy.clone());
    /// orchestra.apply(sleepy(4)).await?;
    /// orchestra.ready::<Deployment>("sleepy").await?;
    ///
    /// let answer = orchestra.what_if(&Question::new().drain(["b"]))?;
    /// assert!(answer.is_fine(), "{answer}");
    /// let answer = orchestra.what_if(&Question::new().drain(["a"]))?;
    /// assert_eq!(answer.stranded[0].why.to_string(), "0/1 nodes fit: 1 lacks cpu (nearest b misses 1)");
    /// // Those that run make way for those that come.
    /// assert!(orchestra.what_if(&Question::new().apply(&sleepy(6)))?.is_fine());
    /// assert!(!orchestra.what_if(&Question::new().apply(&sleepy(7)))?.is_fine());
    /// orchestra.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the question asks for what the API would refuse, or names what does not exist once the changes before
    /// have happened.
    pub fn what_if(&self, question: &Question) -> Result<Answer, QuestionError> {
        let inputs = PlanInputs {
            now: self.client.now(),
            rng: PlanRng::new(0),
        };
        question.ask(&self.snapshot(), &*self.scheduler, inputs)
    }
}
