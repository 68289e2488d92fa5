//! How long pods stay on nodes that are lost, where they do not say.

use async_trait::async_trait;
use orchestra_core::kind::pod::add_default_tolerations;
use orchestra_core::kind::{Pod, Resource};

use super::{Admission, AdmissionRequest};

/// Lets each new pod stay for five minutes on a node that is not ready or not heard of, unless it
/// says for how long itself, as Kubernetes' `DefaultTolerationSeconds` does.
#[derive(Clone, Copy, Debug, Default)]
pub struct TolerationAdmission;

#[async_trait]
impl Admission for TolerationAdmission {
    fn name(&self) -> &'static str {
        "tolerations"
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), String> {
        if request.kind() == Pod::KIND
            && request.is_create()
            && let Some(pod) = request.object_mut::<Pod>()
        {
            add_default_tolerations(&mut pod.spec);
        }
        Ok(())
    }
}
