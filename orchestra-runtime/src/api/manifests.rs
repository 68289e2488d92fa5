//! Applying all that a manifest holds.

use std::pin::Pin;

use orchestra_core::kind::{FieldError, Namespace, PriorityClass, Resource};
use orchestra_core::manifest::{CustomObject, Manifests, Object, WithObject};

use super::client::Client;
use super::error::ApiError;

impl Client {
    /// [Applies](super::Api::apply) each object of a manifest: namespaces and priority classes
    /// first, since others name them, the rest in the order of the text. Idempotent: after an
    /// error, mend it and apply the whole again. What the text says and is not honoured
    /// ([`Manifests::unhonoured`]) goes to the log (`tracing`) as warnings.
    ///
    /// # Errors
    ///
    /// At the first object that is refused, naming it; those before it stay applied. Nothing is
    /// applied at all if the manifest has objects of kinds that the application registered: apply
    /// those by their own kinds.
    pub async fn apply_all(&self, manifests: &Manifests) -> Result<(), ApiError> {
        // Before anything is applied.
        let custom = manifests.objects.iter();
        if let Some(custom) = { custom }.find(|object| matches!(object, Object::Custom(_))) {
            return custom.clone().with(Apply(self)).await;
        }
        for unhonoured in &manifests.unhonoured {
            tracing::warn!(%unhonoured, "a manifest says what is not honoured");
        }
        let first =
            |object: &&Object| [Namespace::KIND, PriorityClass::KIND].contains(&object.kind());
        let (first, rest): (Vec<_>, Vec<_>) = manifests.objects.iter().partition(first);
        for object in first.into_iter().chain(rest) {
            object.clone().with(Apply(self)).await?;
        }
        Ok(())
    }
}

/// Applies one object.
struct Apply<'a>(&'a Client);

impl<'a> WithObject for Apply<'a> {
    type Out = Pin<Box<dyn Future<Output = Result<(), ApiError>> + Send + 'a>>;

    fn with<K: Resource>(self, object: K) -> Self::Out {
        let api = self.0.api::<K>();
        Box::pin(async move { api.apply(object).await.map(drop) })
    }

    fn with_custom(self, object: CustomObject) -> Self::Out {
        let object = Object::Custom(object);
        let (kind, subject) = (object.kind(), format!("{} {}", object.kind(), object.key()));
        let remedy = "take it out of the objects, and apply it by its own kind: \
                      client.api::<K>().apply(object)";
        let error = FieldError::new("kind", kind, "is a kind of the application", remedy);
        let refused = ApiError::invalid("apply", subject, error);
        Box::pin(std::future::ready(Err(refused)))
    }
}
