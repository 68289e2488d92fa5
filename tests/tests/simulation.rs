//! The cluster in virtual time: scenarios, seeds, and planted bugs.

use std::time::Duration;

use orchestra_core::kind::{Container, Deployment, Service};
use orchestra_runtime::prelude::BoxError;
use orchestra_runtime::sim::{Fault, Sim};

fn web(replicas: u32) -> Deployment {
    let container = Container::new("web", "web").cpu_milli(500).memory_mib(256).port(8080);
    Deployment::new("web").replicas(replicas).container(container)
}

fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

#[test]
fn a_deployment_comes_up_and_stays() {
    let report = Sim::seed(1)
        .nodes(3)
        .run(async |sim| {
            sim.apply(web(6)).await?;
            sim.apply(Service::new("web").selector("app", "web").port(80, 8080)).await?;
            sim.settle().await?;
            assert_eq!(sim.ready("web"), 6);
            sim.still(minutes(60)).await?;
            Ok::<(), BoxError>(())
        })
        .unwrap();
    assert!(report.commits > 20, "{report}");
}

#[test]
fn a_lost_node_is_replaced_and_comes_back() {
    Sim::seed(7)
        .nodes(10)
        .run(async |sim| {
            sim.apply(web(20)).await?;
            sim.settle().await?;
            sim.fault(Fault::LoseNode("node-3".into())).await?;
            sim.advance(minutes(10)).await;
            sim.settle().await?;
            assert_eq!(sim.ready("web"), 20);
            sim.fault(Fault::ReturnNode("node-3".into())).await?;
            sim.settle().await?;
            sim.still(minutes(60)).await?;
            assert_eq!(sim.ready("web"), 20);
            Ok(())
        })
        .unwrap();
}
