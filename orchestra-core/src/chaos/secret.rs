//! A secret provider on a bad day.

use std::sync::Arc;

use async_trait::async_trait;

use super::faults::{Fault, Faults};
use crate::port::secret::{SecretError, SecretErrorKind, SecretProvider, SecretRef, SecretValue};

/// A [`SecretProvider`] that is away now and then: unavailable, lost and ambiguous fetches answer
/// [`SecretErrorKind::Unavailable`], delayed ones are late, duplicated ones fetch twice.
#[derive(Debug)]
pub struct ChaosSecrets {
    inner: Arc<dyn SecretProvider>,
    faults: Faults,
}

impl ChaosSecrets {
    /// Faults for `inner`.
    pub fn new(inner: Arc<dyn SecretProvider>, faults: Faults) -> Self {
        Self { inner, faults }
    }
}

#[async_trait]
impl SecretProvider for ChaosSecrets {
    async fn fetch(&self, secret: &SecretRef) -> Result<SecretValue, SecretError> {
        let possible = [
            Fault::Unavailable,
            Fault::Lost,
            Fault::Ambiguous,
            Fault::Duplicated,
            Fault::Delayed,
        ];
        match self.faults.strike(&possible).await {
            Fault::Unavailable | Fault::Lost | Fault::Ambiguous => {
                Err(SecretError::new(SecretErrorKind::Unavailable, "fetch")
                    .about(secret.to_string())
                    .because("an injected fault"))
            }
            Fault::Duplicated => {
                let _ = self.inner.fetch(secret).await;
                self.inner.fetch(secret).await
            }
            _ => self.inner.fetch(secret).await,
        }
    }
}
