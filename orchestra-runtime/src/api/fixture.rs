//! A small kind and a client of it, for tests.

use std::sync::Arc;

use orchestra_core::kind::{FieldError, Invalid, Resource, Scope};
use orchestra_core::meta::ObjectMeta;
use orchestra_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::Client;
use crate::clock::TokioClock;
use crate::ids::Ids;
use crate::store::MemoryStore;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Widget {
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: WidgetSpec,
    pub(crate) status: WidgetStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct WidgetSpec {
    pub(crate) size: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) node: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) data: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) containers: Vec<serde_json::Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct WidgetStatus {
    pub(crate) made: u64,
}

impl Resource for Widget {
    const API_VERSION: &'static str = "test.orchestra.dev/v1";
    const KIND: &'static str = "Widget";
    const PLURAL: &'static str = "widgets";
    const SCOPE: Scope = Scope::Namespaced;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }

    fn set_defaults(&mut self) {
        if self.spec.size == 0 {
            self.spec.size = 1;
        }
    }

    fn validate(&self) -> Result<(), Invalid> {
        let mut invalid = Invalid::new();
        if self.spec.size > 100 {
            let size = self.spec.size;
            invalid.errors.push(FieldError::new(
                "spec.size",
                size,
                "past 100",
                "ask for less",
            ));
        }
        invalid.into_result()
    }

    fn take_status(&mut self, current: &Self) {
        self.status = current.status.clone();
    }

    fn same_spec(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

/// A widget of that name in `default`.
pub(crate) fn widget(name: &str) -> Widget {
    let metadata = ObjectMeta {
        name: name.into(),
        namespace: "default".into(),
        ..ObjectMeta::default()
    };
    Widget {
        metadata,
        ..Widget::default()
    }
}

/// A client of an empty store in memory, on seed 1, at the epoch.
pub(crate) fn client() -> Client {
    client_of(Arc::new(MemoryStore::new()))
}

/// A client of that store, on seed 1, at the epoch.
pub(crate) fn client_of(store: Arc<dyn orchestra_core::port::store::StateStore>) -> Client {
    let clock = Arc::new(TokioClock::starting_at(Timestamp::EPOCH));
    Client::new(store, clock, Arc::new(Ids::seeded(1)))
}
