//! What if: questions to a cluster that nothing is done to: `cargo run --example what_if`.
//!
//! The same scheduler answers that places pods for real, so the answer is what it would do.

#![allow(clippy::print_stdout)]

use std::error::Error;

use orchestra_core::kind::{Deployment, Node, Pod};
use orchestra_core::time::Timestamp;
use orchestra_sched::fixture::Cluster;
use orchestra_sched::place::{Framework, PlanInputs};
use orchestra_sched::rng::PlanRng;
use orchestra_sched::whatif::{Question, headroom, weak_spots};

/// Three zones; the database wants the one large node.
const SHOP: &str = "
    node a-1 cpu=4 memory=16Gi zone=a
    node a-2 cpu=4 memory=16Gi zone=a
    node b-1 cpu=4 memory=16Gi zone=b
    node b-2 cpu=4 memory=16Gi zone=b
    node c-1 cpu=4 memory=16Gi zone=c
    node c-big cpu=16 memory=128Gi zone=c taint=dedicated=db:NoSchedule
    pod web-a*3 on=a-1 cpu=1 memory=1Gi label=app=web
    pod web-b*3 on=b-1 cpu=1 memory=1Gi label=app=web
    pod api*4 on=a-2 cpu=500m memory=2Gi label=app=api
    pod cache on=b-2 cpu=2 memory=8Gi label=app=cache
    pod db on=c-big cpu=12 memory=96Gi label=app=db tolerate=dedicated=db
";

fn main() -> Result<(), Box<dyn Error>> {
    orchestra_examples::no_arguments();
    let cluster: Cluster = SHOP.parse()?;
    let snapshot = cluster.snapshot();
    let scheduler = Framework::default();
    let inputs = PlanInputs {
        now: Timestamp::EPOCH,
        rng: PlanRng::new(1),
    };
    let ask = |question: Question| -> Result<bool, Box<dyn Error>> {
        let answer = question.ask(&snapshot, &scheduler, inputs)?;
        println!("{answer}\n");
        Ok(answer.is_fine())
    };

    // Maintenance tonight: is there room for what runs on two nodes?
    assert!(ask(Question::new().drain(["a-1", "b-2"]))?);

    // A zone burns down. What has to be bought, so that it would not matter?
    assert!(!ask(Question::new().lose_zone("c"))?);
    let spare = Node::new("a-big").zone("a").capacity(16_000, 131_072, 110);
    assert!(ask(Question::new().lose_zone("c").add_nodes(&spare, 1))?);

    // The next release wants twice the memory and more cores.
    let requests = [
        ("cpu".into(), "2".parse()?),
        ("memory".into(), "4Gi".parse()?),
    ];
    let labels = [("app".into(), "web".into())];
    assert!(ask(Question::new().request(
        "default",
        labels.into(),
        &requests.into()
    ))?);

    // A deployment of thirty: how many of them run? And once it is rolled out with ten?
    let report: Cluster = "pod report cpu=1 memory=2Gi label=app=report".parse()?;
    let report: &Pod = &report.pods[0];
    let deployment = |replicas| {
        let report = Deployment::new("report").template(report.clone());
        report.namespace("default").replicas(replicas)
    };
    assert!(!ask(Question::new().apply(&deployment(30)))?);
    assert!(ask(Question::new().apply(&deployment(10)))?);
    let room = headroom(&snapshot, &scheduler, report, 1_000, inputs)?;
    println!("{}: {room}\n", report.metadata.name);

    // And what is it that must not fail?
    let weak = weak_spots(&snapshot, &scheduler, inputs);
    println!("{weak}");
    assert_eq!(
        weak.nodes.len(),
        1,
        "the large node is the only one of its kind"
    );
    Ok(())
}
