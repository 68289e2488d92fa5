//! The templates that a deployment had, and the way back to one of them.

use std::sync::Arc;

use orchestra_core::kind::{ControllerRevision, Deployment, FieldError, PodTemplateSpec, Resource};
use orchestra_core::meta::ObjectKey;
use orchestra_core::time::Timestamp;

use super::{Api, ApiError, ApiErrorKind, ListParams};

/// A template that a deployment had at some time, or has now.
#[derive(Clone, Debug, PartialEq)]
pub struct PastTemplate {
    /// Its number: the greatest is that of the template the deployment goes to or has. A template
    /// that is gone back to gets a new number.
    pub revision: i64,
    /// The template.
    pub template: PodTemplateSpec,
    /// When it was first seen.
    pub created: Option<Timestamp>,
}

impl Api<Deployment> {
    /// The templates of the deployment at `key` that are still remembered, oldest first. How many
    /// those are is its `revisionHistoryLimit`.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ApiErrorKind::NotFound) if there is no such deployment.
    pub async fn history(&self, key: &ObjectKey) -> Result<Vec<PastTemplate>, ApiError> {
        let deployment = self.get(key).await?;
        self.history_of(&deployment).await
    }

    /// Gives the deployment at `key` the template it had at `revision`, or, if that is `None`, the
    /// one before the newest. Pods follow by its ordinary strategy. Returns the deployment as it is
    /// then.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ApiErrorKind::NotFound) if there is no such deployment or revision, naming
    /// those that there are; [`Denied`](ApiErrorKind::Denied) if it is paused.
    pub async fn rollback(
        &self,
        key: &ObjectKey,
        revision: Option<i64>,
    ) -> Result<Arc<Deployment>, ApiError> {
        let deployment = self.get(key).await?;
        let subject = || format!("deployments {key}");
        if deployment.spec.paused {
            let kind = ApiErrorKind::Denied {
                by: "rollback",
                why: "it is paused; resume it first".to_owned(),
            };
            return Err(ApiError::new(kind, "roll back", subject()));
        }
        let history = self.history_of(&deployment).await?;
        let found = match revision {
            Some(revision) => history.iter().find(|past| past.revision == revision),
            None => history.iter().rev().nth(1),
        };
        let Some(past) = found else {
            let asked = match revision {
                Some(revision) => format!("there is no revision {revision}"),
                None => "there is no revision before the newest".to_owned(),
            };
            let known: Vec<String> = history.iter().map(|p| p.revision.to_string()).collect();
            let why = format!("{asked}; it remembers {}", known.join(", "));
            let remedy = "name one of the revisions that it remembers";
            let asked = revision.map_or_else(String::new, |revision| revision.to_string());
            let error = FieldError::new("revision", asked, why, remedy);
            return Err(ApiError::invalid("roll back", subject(), error));
        };
        let mut changed = Deployment::clone(&deployment);
        changed.spec.template = past.template.clone();
        self.replace(changed).await
    }

    async fn history_of(&self, deployment: &Deployment) -> Result<Vec<PastTemplate>, ApiError> {
        let uid = deployment.metadata.uid;
        let within = ListParams::namespace(deployment.metadata.namespace.as_str());
        let revisions = self
            .client()
            .api::<ControllerRevision>()
            .list(within)
            .await?;
        let mut history = Vec::new();
        for revision in revisions.items {
            let meta = &revision.metadata;
            if meta.controller().is_none_or(|owner| owner.uid != uid) {
                continue;
            }
            let template = serde_json::from_value(revision.data.clone()).map_err(|error| {
                let about = format!("controllerrevisions {}", revision.key());
                ApiError::new(ApiErrorKind::Corrupt, "read history", about).because(error)
            })?;
            history.push(PastTemplate {
                revision: revision.revision,
                template,
                created: meta.creation_timestamp,
            });
        }
        history.sort_by_key(|past| past.revision);
        Ok(history)
    }
}
