//! What a pod needs in all, what class that makes it, and which of its ports is meant.

use super::{Container, Pod, PodSpec, QosClass};
use crate::int_or::IntOrString;
use crate::kind::service::ServicePort;
use crate::quantity::ResourceList;

impl Pod {
    /// What it needs of each resource. See [`PodSpec::requests`].
    pub fn requests(&self) -> ResourceList {
        self.spec.requests()
    }
}

impl PodSpec {
    /// What a pod needs of each resource: the main containers and sidecars together, or, where
    /// that is more, one init container with the sidecars started before it; and its overhead.
    /// Where the pod as a whole states a need, that stands in for its containers'. Sums stop at
    /// the largest quantity.
    pub fn requests(&self) -> ResourceList {
        let mut main = ResourceList::new();
        for container in &self.containers {
            add(&mut main, &container.resources.requests);
        }
        let mut sidecars = ResourceList::new();
        let mut peak = ResourceList::new();
        for container in &self.init_containers {
            if container.is_sidecar() {
                add(&mut main, &container.resources.requests);
                add(&mut sidecars, &container.resources.requests);
                raise(&mut peak, &sidecars);
            } else {
                let mut now = sidecars.clone();
                add(&mut now, &container.resources.requests);
                raise(&mut peak, &now);
            }
        }
        raise(&mut main, &peak);
        if let Some(whole) = &self.resources {
            for (name, amount) in &whole.requests {
                main.insert(name.clone(), *amount);
            }
        }
        add(&mut main, &self.overhead);
        main
    }
}

impl PodSpec {
    /// How the pod is treated when its node runs out of CPU or memory.
    pub fn qos_class(&self) -> QosClass {
        const COUNTED: [&str; 2] = ["cpu", "memory"];
        let mut stated = false;
        let mut equal = true;
        for container in self.init_containers.iter().chain(&self.containers) {
            let resources = &container.resources;
            for name in COUNTED {
                let amount =
                    |list: &ResourceList| list.get(name).filter(|it| !it.is_zero()).copied();
                let (limit, request) = (amount(&resources.limits), amount(&resources.requests));
                stated |= limit.is_some() || request.is_some();
                equal &= limit.is_some() && request.is_none_or(|request| Some(request) == limit);
            }
        }
        match (stated, equal) {
            (false, _) => QosClass::BestEffort,
            (true, true) => QosClass::Guaranteed,
            (true, false) => QosClass::Burstable,
        }
    }

    /// The number at the pod of a service's port; `None` if it is named and no main container or
    /// sidecar has a port of that name and protocol.
    pub fn target_port(&self, port: &ServicePort) -> Option<u16> {
        let name = match &port.target_port {
            None => return Some(port.port),
            Some(IntOrString::Int(number)) => return u16::try_from(*number).ok(),
            Some(IntOrString::String(name)) => name,
        };
        let sidecars = self
            .init_containers
            .iter()
            .filter(|container| container.is_sidecar());
        let mut ports = self
            .containers
            .iter()
            .chain(sidecars)
            .flat_map(|it| &it.ports);
        let found = ports.find(|own| own.name == *name && own.protocol == port.protocol)?;
        Some(found.container_port)
    }
}

impl Container {
    /// The number of a port that a probe or handler names; `None` if it is named and the
    /// container has none of that name.
    pub fn port_number(&self, port: &IntOrString) -> Option<u16> {
        match port {
            IntOrString::Int(number) => u16::try_from(*number).ok(),
            IntOrString::String(name) => {
                let found = self.ports.iter().find(|own| own.name == *name)?;
                Some(found.container_port)
            }
        }
    }
}

fn add(sum: &mut ResourceList, more: &ResourceList) {
    for (name, amount) in more {
        let sum = sum.entry(name.clone()).or_default();
        // Beyond what a quantity holds, no node has that much either.
        *sum = sum
            .checked_add(*amount)
            .unwrap_or_else(|| (*sum).max(*amount));
    }
}

fn raise(peak: &mut ResourceList, candidate: &ResourceList) {
    for (name, amount) in candidate {
        let peak = peak.entry(name.clone()).or_default();
        *peak = (*peak).max(*amount);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kind::Service;
    use crate::quantity::Quantity;

    fn container(cpu: u32, memory: u32) -> Container {
        Container::new("c", "i").cpu_milli(cpu).memory_mib(memory)
    }

    /// At every moment of the pod's life, what runs then: init containers one by one beside the
    /// sidecars started before them, then all main containers and sidecars.
    fn plain(pod: &Pod, name: &str) -> i64 {
        let milli = |container: &Container| container.resources.requests[name].as_milli();
        let mut sidecars = 0;
        let mut most = 0;
        for container in &pod.spec.init_containers {
            most = most.max(sidecars + milli(container));
            if container.is_sidecar() {
                sidecars += milli(container);
            }
        }
        let main: i64 = pod.spec.containers.iter().map(milli).sum();
        most.max(main + sidecars) + pod.spec.overhead.get(name).map_or(0, Quantity::as_milli)
    }

    proptest! {
        #[test]
        fn requests_are_the_most_that_ever_runs_at_once(
            inits in prop::collection::vec((0_u32..50, 0_u32..50, any::<bool>()), 0..5),
            mains in prop::collection::vec((0_u32..50, 0_u32..50), 1..4),
            overhead in prop::option::of(0_i64..50),
        ) {
            let mut pod = Pod::builder("p");
            for (cpu, memory, sidecar) in inits {
                let container = container(cpu, memory);
                pod = if sidecar { pod.sidecar(container) } else { pod.init_container(container) };
            }
            for (cpu, memory) in mains {
                pod = pod.container(container(cpu, memory));
            }
            if let Some(milli) = overhead {
                pod.spec.overhead.insert("cpu".into(), Quantity::from_milli(milli));
            }
            let requests = pod.requests();
            for name in ["cpu", "memory"] {
                prop_assert_eq!(requests[name].as_milli(), plain(&pod, name), "{}", name);
            }
        }
    }

    #[test]
    fn sums_stop_at_the_largest_quantity() {
        let huge = Quantity::from_int(i64::MAX);
        let pod = Pod::builder("p")
            .container(Container::new("a", "i").request("memory", huge))
            .container(Container::new("b", "i").request("memory", huge));
        assert_eq!(pod.requests()["memory"], huge);
    }

    #[test]
    fn the_class_follows_from_cpu_and_memory() {
        let exact = |name: &str| {
            container(100, 64)
                .limit("cpu", Quantity::from_milli(100))
                .limit(name, Quantity::from_int(64 << 20))
        };
        let class = |container| Pod::builder("p").container(container).spec.qos_class();
        assert_eq!(class(Container::new("c", "i")), QosClass::BestEffort);
        assert_eq!(class(container(100, 64)), QosClass::Burstable);
        assert_eq!(class(exact("example.com/gpu")), QosClass::Burstable);
        assert_eq!(class(exact("memory")), QosClass::Guaranteed);
    }

    #[test]
    fn a_named_target_is_looked_up_in_main_containers_and_sidecars() {
        let pod = Pod::builder("p")
            .init_container(Container::new("setup", "i").named_port("setup", 1))
            .sidecar(Container::new("proxy", "i").named_port("proxy", 2))
            .container(Container::new("web", "i").named_port("http", 8080));
        let service = Service::new("s")
            .port(80, "http")
            .port(81, "proxy")
            .port(82, "setup")
            .port(83, 9);
        let targets: Vec<_> = service
            .spec
            .ports
            .iter()
            .map(|port| pod.spec.target_port(port))
            .collect();
        assert_eq!(targets, [Some(8080), Some(2), None, Some(9)]);
        let web = &pod.spec.containers[0];
        assert_eq!(web.port_number(&"http".into()), Some(8080));
        assert_eq!(web.port_number(&"proxy".into()), None);
        assert_eq!(web.port_number(&7.into()), Some(7));
    }
}
