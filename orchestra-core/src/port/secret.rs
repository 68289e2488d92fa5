//! Handing out secrets, in a type that keeps them from slipping out.

use std::fmt;

use async_trait::async_trait;
use smol_str::SmolStr;
use zeroize::Zeroizing;

use crate::error::{ErrorKind, PortError, Retry};

/// Bytes that must not leak: they cannot be printed, serialised or compared by accident, and are
/// wiped on drop.
#[derive(Clone, Default)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes over `bytes`.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// The bytes. Every reader of a secret goes through this name, which is easy to search for.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(..)")
    }
}

/// Which value of which secret.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SecretRef {
    /// The secret's namespace.
    pub namespace: SmolStr,
    /// Its name.
    pub name: SmolStr,
    /// The key within it.
    pub key: SmolStr,
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}[{}]", self.namespace, self.name, self.key)
    }
}

/// A secret value, and which version of it this is.
#[derive(Clone, Debug)]
pub struct SecretValue {
    /// The bytes.
    pub bytes: SecretBytes,
    /// Changes whenever the bytes do; opaque otherwise.
    pub version: SmolStr,
}

/// Hands out secrets.
///
/// # Contract
///
/// * `fetch` gives the newest version; two fetches with equal versions gave equal bytes, and
///   changed bytes come with another version.
/// * Neither errors nor `Debug` output ever hold the bytes.
///
/// The suite `conformance::secret` tests an implementation against this.
#[async_trait]
pub trait SecretProvider: fmt::Debug + Send + Sync + 'static {
    /// Fetches the newest version. Retry-safe and cancel-safe.
    async fn fetch(&self, secret: &SecretRef) -> Result<SecretValue, SecretError>;
}

const _: Option<&dyn SecretProvider> = None;

/// A secret could not be had.
pub type SecretError = PortError<SecretErrorKind>;

/// Why a secret could not be had.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretErrorKind {
    /// There is no such secret, or no such key in it.
    #[error("no such secret or key; create it, or mark the reference optional")]
    NotFound,
    /// The caller may not read it.
    #[error("reading it is not granted")]
    Denied,
    /// The provider cannot be reached now.
    #[error("the secret provider cannot be reached now; try again with back-off")]
    Unavailable,
}

impl ErrorKind for SecretErrorKind {
    fn retry(self) -> Retry {
        match self {
            Self::Unavailable => Retry::Backoff,
            Self::NotFound => Retry::AfterRefresh,
            Self::Denied => Retry::Never,
        }
    }
}
