//! What containers printed.

use orchestra_core::kind::Pod;
use orchestra_core::meta::ObjectKey;
use orchestra_core::port::driver::{DriverError, DriverErrorKind, WorkloadId};
use smol_str::SmolStr;

use super::Orchestra;
use crate::api::ApiError;

/// So many bytes of what was printed last are given where nothing else is said.
const TAIL_BYTES: usize = 64 * 1_024;

/// There is nothing to read of what a container printed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum LogsError {
    /// There is no such pod.
    #[error("pods {0} does not exist; list the pods to see which do")]
    NoPod(ObjectKey),
    /// The pod has no such container.
    #[error("pods {pod} has no container {asked:?}; it has {has}")]
    NoContainer {
        /// The pod.
        pod: ObjectKey,
        /// What was asked for.
        asked: SmolStr,
        /// The names of those it has.
        has: String,
    },
    /// No driver of this process has anything of that container.
    #[error("pods {pod}, container {container}: {why}")]
    Nothing {
        /// The pod.
        pod: ObjectKey,
        /// Its container.
        container: SmolStr,
        /// Why, with the remedy.
        why: String,
    },
    /// The driver could not read it.
    #[error("what the container printed could not be read")]
    Driver(#[from] DriverError),
    /// The pod could not be looked up.
    #[error("the pod could not be looked up")]
    Api(#[from] ApiError),
}

crate::debug_as_report!(LogsError);

impl Orchestra {
    /// What the first container of a pod of the default namespace printed last: both streams in the
    /// order they came, the last 64 KiB at most. What is not UTF-8 is replaced. See
    /// [`logs_at`](Self::logs_at).
    ///
    /// # Errors
    ///
    /// As [`logs_at`](Self::logs_at).
    pub async fn logs(&self, pod: impl Into<SmolStr>) -> Result<String, LogsError> {
        let key = ObjectKey::namespaced("default", pod);
        let printed = self.logs_at(&key, None, TAIL_BYTES).await?;
        Ok(String::from_utf8_lossy(&printed).into_owned())
    }

    /// The last `bytes_max` bytes that the newest attempt of a container printed, bounded by what
    /// its driver keeps. Without a name it is the first of the pod's containers; init containers
    /// have to be named. Cancel-safe.
    ///
    /// Only what runs in this process's nodes can be read here, and only while its driver keeps it:
    /// until the pod is gone.
    ///
    /// # Errors
    ///
    /// [`LogsError`] if there is no such pod or container, if it was not started yet, if it is in
    /// the hands of another process, or if its driver keeps nothing.
    pub async fn logs_at(
        &self,
        pod: &ObjectKey,
        container: Option<&str>,
        bytes_max: usize,
    ) -> Result<Vec<u8>, LogsError> {
        let found = self.client.api::<Pod>().find(pod).await?;
        let found = found.ok_or_else(|| LogsError::NoPod(pod.clone()))?;
        let all = || {
            found
                .spec
                .containers
                .iter()
                .chain(&found.spec.init_containers)
        };
        let named = match container {
            None => found.spec.containers.first(),
            Some(name) => all().find(|container| container.name == name),
        };
        let Some(container) = named else {
            let has: Vec<&str> = all().map(|container| container.name.as_str()).collect();
            return Err(LogsError::NoContainer {
                pod: pod.clone(),
                asked: container.unwrap_or_default().into(),
                has: has.join(", "),
            });
        };
        let id = WorkloadId {
            pod: found.metadata.uid,
            container: container.name.clone(),
        };
        let node = &found.spec.node_name;
        let (mut here, mut kept) = (false, false);
        for made in self.drivers.iter().filter(|made| made.node == *node) {
            here = true;
            let Some(logs) = made.driver().logs() else {
                continue;
            };
            kept = true;
            match logs.tail(&id, bytes_max).await {
                Ok(printed) => return Ok(printed),
                Err(error) if error.kind() == DriverErrorKind::Unknown => {}
                Err(error) => return Err(error.into()),
            }
        }
        let why = if node.is_empty() {
            "the pod has no node yet, so nothing was started; wait until it is ready".to_owned()
        } else if !here {
            format!("it runs on node {node}, which is not one of this process; ask there")
        } else if kept {
            "it was not started yet, or was removed since; wait until it runs".to_owned()
        } else {
            format!("no driver of node {node} keeps what is printed; use one whose `logs` does")
        };
        Err(LogsError::Nothing {
            pod: pod.clone(),
            container: container.name.clone(),
            why,
        })
    }
}
