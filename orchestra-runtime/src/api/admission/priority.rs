//! From the name of a priority class to the priority of a pod.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use orchestra_core::error::report;
use orchestra_core::kind::pod::PreemptionPolicy;
use orchestra_core::kind::{Pod, PriorityClass, Resource};
use orchestra_core::meta::ObjectKey;
use orchestra_core::port::clock::Clock;
use orchestra_core::port::store::{Guard, StateStore};
use orchestra_core::time::Timestamp;
use smol_str::SmolStr;

use super::{Admission, AdmissionRequest};
use crate::api::{Client, ListParams, store_key};
use crate::ids::Ids;

/// The classes that exist without being created, with their priorities.
pub const PRIORITY_CLASSES_BUILT_IN: [(&str, i32); 2] = [
    ("system-cluster-critical", 2_000_000_000),
    ("system-node-critical", 2_000_001_000),
];

/// For how long the default class is taken to be the same without looking: creating many pods does
/// not cost a listing each. A class written through this process counts at once.
const USUAL_AGE_MAX: Duration = Duration::from_secs(1);

/// Gives each new pod the priority and the preemption policy of its class: the one it names, or
/// the one that is the default for all, or priority 0 if there is none. A pod keeps the priority it
/// was created with, whatever becomes of the class.
///
/// Refuses, by name: a class that does not exist, a priority other than that of the class, and a
/// second class that is the default for all.
#[derive(Debug)]
pub struct PriorityAdmission {
    client: Client,
    /// The class of pods that name none, and when it was looked up.
    usual: Mutex<Option<(Timestamp, Class)>>,
}

impl PriorityAdmission {
    /// A hook that looks classes up in `store`.
    pub fn new(store: Arc<dyn StateStore>, clock: Arc<dyn Clock>) -> Self {
        // It only reads: no identity is ever drawn.
        let client = Client::new(store, clock, Arc::new(Ids::seeded(0)));
        Self {
            client,
            usual: Mutex::default(),
        }
    }

    async fn classes(&self) -> Result<Vec<Arc<PriorityClass>>, String> {
        let api = self.client.api::<PriorityClass>();
        let list = api.list(ListParams::default()).await;
        let list = list.map_err(|error| report(&error).to_string())?;
        Ok(list.items)
    }

    /// The class of pods that name none: as it is, or was a moment ago.
    async fn usual(&self) -> Result<Class, String> {
        let now = self.client.now();
        let known = self.remembered().clone();
        if let Some((_, class)) = known.filter(|(at, _)| now < *at + USUAL_AGE_MAX) {
            return Ok(class);
        }
        let classes = self.classes().await?;
        let default = classes.iter().find(|class| class.global_default);
        let class = default.map_or_else(|| Class::new("", 0), |class| Class::of(class));
        *self.remembered() = Some((now, class.clone()));
        Ok(class)
    }

    fn remembered(&self) -> MutexGuard<'_, Option<(Timestamp, Class)>> {
        self.usual.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value and policy of the class a pod names, and the guard that they still hold.
    async fn class(&self, name: &SmolStr) -> Result<(Class, Option<Guard>), String> {
        let built_in = PRIORITY_CLASSES_BUILT_IN
            .iter()
            .find(|(known, _)| known == name);
        if let Some((name, value)) = built_in {
            return Ok((Class::new(name, *value), None));
        }
        let key = ObjectKey::cluster(name.clone());
        let found = self.client.api::<PriorityClass>().find(&key).await;
        let found = found.map_err(|error| report(&error).to_string())?;
        let found = found.ok_or_else(|| {
            format!("there is no priority class {name:?}; create it, or name another")
        })?;
        let guard = Guard::At(
            store_key::<PriorityClass>(&key),
            found.metadata.resource_version,
        );
        Ok((Class::of(&found), Some(guard)))
    }

    async fn pod(&self, request: &mut AdmissionRequest<'_>) -> Result<(), String> {
        let Some(pod) = request.object::<Pod>() else {
            return Ok(());
        };
        let named = pod.spec.priority_class_name.clone();
        let (class, guard) = if named.is_empty() {
            if pod.spec.priority.is_some() {
                return Ok(()); // a priority without a name, by builder
            }
            (self.usual().await?, None)
        } else {
            self.class(&named).await?
        };
        if let Some(asked) = pod.spec.priority
            && asked != class.value
        {
            return Err(format!(
                "the pod asks for priority {asked}, and its class {named:?} has {}; leave \
                 spec.priority out",
                class.value
            ));
        }
        if let Some(guard) = guard {
            request.guard(guard);
        }
        if let Some(pod) = request.object_mut::<Pod>() {
            pod.spec.priority_class_name = class.name;
            pod.spec.priority = Some(class.value);
            pod.spec.preemption_policy.get_or_insert(class.policy);
        }
        Ok(())
    }

    async fn only_default(&self, request: &AdmissionRequest<'_>) -> Result<(), String> {
        let Some(class) = request.object::<PriorityClass>() else {
            return Ok(());
        };
        if !class.global_default {
            return Ok(());
        }
        let classes = self.classes().await?;
        let mut others = classes
            .iter()
            .filter(|other| other.global_default && other.metadata.name != class.metadata.name);
        match others.next() {
            None => Ok(()),
            Some(other) => Err(format!(
                "priority class {:?} is the default for all already; only one can be",
                other.metadata.name
            )),
        }
    }
}

#[async_trait]
impl Admission for PriorityAdmission {
    fn name(&self) -> &'static str {
        "priority"
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), String> {
        match request.kind() {
            Pod::KIND if request.is_create() => self.pod(request).await,
            PriorityClass::KIND => {
                *self.remembered() = None;
                self.only_default(request).await
            }
            _ => Ok(()),
        }
    }
}

#[derive(Clone, Debug)]
struct Class {
    name: SmolStr,
    value: i32,
    policy: PreemptionPolicy,
}

impl Class {
    fn new(name: &str, value: i32) -> Self {
        Self {
            name: name.into(),
            value,
            policy: PreemptionPolicy::default(),
        }
    }

    fn of(class: &PriorityClass) -> Self {
        Self {
            name: class.metadata.name.clone(),
            value: class.value,
            policy: class.preemption_policy.unwrap_or_default(),
        }
    }
}
