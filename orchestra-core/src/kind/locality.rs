//! Data that lies on nodes: how a node says what it has, and a pod what it reads.
//!
//! Kubernetes knows where images and volumes are, and nothing of other data. Here annotations say
//! it: of the node, names of data with how much of it is there; of the pod, the names of what it
//! cannot do without and of what it had better be near.
//!
//! ```
//! use orchestra_core::kind::{Node, Pod, locality};
//!
//! let mut node = Node::new("store-1");
//! node.metadata.annotations.insert(locality::DATA_ANNOTATION.into(), "orders=120Gi,logs=5Gi".into());
//! assert_eq!(locality::data_of(&node)[0], ("logs".into(), 5 << 30));
//!
//! let pod = Pod::builder("report").annotation(locality::WANTS_ANNOTATION, "orders, logs");
//! assert_eq!(locality::names(&pod, locality::WANTS_ANNOTATION), ["logs", "orders"]);
//! ```

use smol_str::SmolStr;

use super::rules::Path;
use super::{Invalid, Node, Pod};
use crate::meta::ObjectMeta;
use crate::quantity::Quantity;

/// The annotation of a node that says which data it has, and how much of it: `name=120Gi`, separated
/// by commas.
pub const DATA_ANNOTATION: &str = "orchestra.dev/data";
/// The annotation of a pod that names the data its node must have, separated by commas.
pub const NEEDS_ANNOTATION: &str = "orchestra.dev/needs-data";
/// The annotation of a pod that names the data its node had better have, separated by commas.
pub const WANTS_ANNOTATION: &str = "orchestra.dev/wants-data";

/// The data a node has, in bytes, sorted by name. What says nothing valid (see [`Node`]'s rules)
/// counts as not there; of two entries of one name the larger counts.
pub fn data_of(node: &Node) -> Vec<(SmolStr, i64)> {
    let mut data: Vec<(SmolStr, i64)> = parts(&node.metadata, DATA_ANNOTATION)
        .filter_map(parse)
        .collect();
    data.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    data.dedup_by(|later, first| later.0 == first.0);
    data
}

/// The names that an annotation of a pod lists, sorted, each once.
pub fn names(pod: &Pod, annotation: &str) -> Vec<SmolStr> {
    let mut names: Vec<SmolStr> = parts(&pod.metadata, annotation).map(SmolStr::new).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn parts<'a>(metadata: &'a ObjectMeta, annotation: &str) -> impl Iterator<Item = &'a str> {
    let text = metadata.annotations.get(annotation);
    let text = text.map_or("", |text| text.as_str());
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
}

fn parse(part: &str) -> Option<(SmolStr, i64)> {
    let (name, amount) = part.split_once('=')?;
    let bytes = amount.trim().parse::<Quantity>().ok()?.as_int();
    let name = name.trim();
    (!name.is_empty() && bytes >= 0).then(|| (name.into(), bytes))
}

/// Refuses an annotation of a node that says nothing valid about its data.
pub(super) fn check(invalid: &mut Invalid, node: &Node) {
    let metadata = Path::root("metadata");
    let annotations = metadata.field("annotations");
    let wrong = parts(&node.metadata, DATA_ANNOTATION).filter(|part| parse(part).is_none());
    for part in wrong {
        let at = annotations.key(DATA_ANNOTATION);
        let remedy = "write names with amounts, such as orders=120Gi,logs=5Gi";
        invalid.refuse(
            at,
            part,
            "says not which data there is, and how much",
            remedy,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Resource as _;

    #[test]
    fn data_is_read_with_care_and_refused_with_a_remedy() {
        let mut node = Node::new("n");
        let text = "b=1Ki, a=2 ,b=3Ki,,=4,c,d=-1,e=many";
        (node.metadata.annotations).insert(DATA_ANNOTATION.into(), text.into());
        assert_eq!(data_of(&node), [("a".into(), 2), ("b".into(), 3 << 10)]);
        let error = node.validate().expect_err("four parts say nothing");
        assert_eq!(error.errors.len(), 4);
        assert!(error.to_string().contains("orchestra.dev/data"), "{error}");
        assert_eq!(data_of(&Node::new("n")), []);
    }
}
