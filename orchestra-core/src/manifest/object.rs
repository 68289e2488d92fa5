//! An object of any kind.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use crate::kind::Resource;
use crate::meta::{ObjectKey, ObjectMeta};

/// What to do with an object whatever its kind is: one method instead of a branch a kind.
pub trait WithObject {
    /// What comes of it.
    type Out;

    /// Does it with an object of a kind that this crate has.
    fn with<K: Resource>(self, object: K) -> Self::Out;

    /// Does it with an object of a kind that the application registered.
    fn with_custom(self, object: CustomObject) -> Self::Out;
}

macro_rules! objects {
    ($($kind:ident)*) => {
        /// An object of any kind.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum Object {
            $(
                #[doc = concat!("A `", stringify!($kind), "`.")]
                $kind(Box<crate::kind::$kind>),
            )*
            /// An object of a kind that the application registered.
            Custom(CustomObject),
        }

        impl Object {
            /// Its kind, for instance `Deployment`.
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Self::$kind(_) => <crate::kind::$kind as Resource>::KIND,)*
                    Self::Custom(object) => object.kind,
                }
            }

            /// Its group and version, for instance `apps/v1`.
            pub fn api_version(&self) -> &'static str {
                match self {
                    $(Self::$kind(_) => <crate::kind::$kind as Resource>::API_VERSION,)*
                    Self::Custom(object) => object.api_version,
                }
            }

            /// What every object has.
            pub fn metadata(&self) -> &ObjectMeta {
                match self {
                    $(Self::$kind(object) => object.metadata(),)*
                    Self::Custom(object) => object.object.meta(),
                }
            }

            /// The object, if it is a `K`.
            pub fn get<K: Resource>(&self) -> Option<&K> {
                match self {
                    $(Self::$kind(object) => {
                        let object: &dyn Any = object.as_ref();
                        object.downcast_ref()
                    })*
                    Self::Custom(object) => object.get(),
                }
            }

            /// Does something with the object whatever its kind is.
            pub fn with<W: WithObject>(self, what: W) -> W::Out {
                match self {
                    $(Self::$kind(object) => what.with(*object),)*
                    Self::Custom(object) => what.with_custom(object),
                }
            }
        }

        $(
            impl From<crate::kind::$kind> for Object {
                fn from(object: crate::kind::$kind) -> Self {
                    Self::$kind(Box::new(object))
                }
            }
        )*

        /// All kinds that this crate has.
        pub(super) fn built_in() -> Vec<super::loader::KnownKind> {
            vec![$(super::loader::KnownKind::of::<crate::kind::$kind>()),*]
        }
    };
}

objects! {
    ConfigMap
    ControllerRevision
    Deployment
    EndpointSlice
    Event
    Lease
    Namespace
    Node
    Pod
    PodDisruptionBudget
    PriorityClass
    ResourceQuota
    Secret
    Service
}

impl Object {
    /// Its name among those of its kind.
    pub fn key(&self) -> ObjectKey {
        self.metadata().key()
    }
}

/// An object of a kind that the application registered. Cloning shares it.
#[derive(Clone)]
pub struct CustomObject {
    kind: &'static str,
    api_version: &'static str,
    object: Arc<dyn Erased>,
}

trait Erased: Any + Send + Sync {
    fn as_any(&self) -> &dyn Any;
    fn meta(&self) -> &ObjectMeta;
    fn debug(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
    fn equals(&self, other: &dyn Any) -> bool;
}

impl<K: Resource> Erased for K {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn meta(&self) -> &ObjectMeta {
        self.metadata()
    }

    fn debug(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt(f)
    }

    fn equals(&self, other: &dyn Any) -> bool {
        other.downcast_ref::<K>() == Some(self)
    }
}

impl CustomObject {
    /// Hides what kind it is of.
    pub fn new<K: Resource>(object: K) -> Self {
        Self {
            kind: K::KIND,
            api_version: K::API_VERSION,
            object: Arc::new(object),
        }
    }

    /// The object, if it is a `K`.
    pub fn get<K: Resource>(&self) -> Option<&K> {
        self.object.as_any().downcast_ref()
    }
}

impl fmt::Debug for CustomObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.object.debug(f)
    }
}

impl PartialEq for CustomObject {
    fn eq(&self, other: &Self) -> bool {
        self.object.equals(other.object.as_any())
    }
}
