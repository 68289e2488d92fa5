//! A process of the simulation: tasks that die together.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::check::Checker;
use super::wire::Line;

/// Tasks that share one way to the store. Dropped, it dies at once: no call of it ever returns.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) line: Arc<Line>,
    tasks: JoinSet<()>,
}

impl Process {
    pub(super) fn new(line: Arc<Line>) -> Self {
        Self {
            line,
            tasks: JoinSet::new(),
        }
    }

    /// Adds a task, whose panic is a violation.
    pub(super) fn spawn(
        &mut self,
        name: &'static str,
        checker: &Arc<Checker>,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let checker = checker.clone();
        self.tasks.spawn(async move {
            // A set of one: dropped with its holder, the work goes too.
            let mut one = JoinSet::new();
            one.spawn(work);
            while let Some(ended) = one.join_next().await {
                if let Err(error) = ended
                    && error.is_panic()
                {
                    checker.complain("no-panics", format!("{name}: {error}"));
                }
            }
        });
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.line.kill();
    }
}
