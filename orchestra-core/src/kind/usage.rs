//! What a node was seen to use, which its agent notes on the node's object.
//!
//! ```
//! use orchestra_core::kind::Node;
//! use orchestra_core::kind::usage::Usage;
//! use orchestra_core::time::Timestamp;
//!
//! let mut node = Node::new("node-1");
//! let seen = Usage { cpu_milli: 700, memory: 2 << 30, at: Timestamp::from_secs(60) };
//! seen.note(&mut node);
//! assert_eq!(Usage::of(&node), Some(seen));
//! ```

use smol_str::format_smolstr;

use super::Node;
use crate::quantity::Quantity;
use crate::time::Timestamp;

/// The annotation of a node that says what it was last seen to use:
/// `cpu=700m,memory=2147483648,at=1970-01-01T00:01:00Z`.
pub const USAGE_ANNOTATION: &str = "orchestra.dev/usage";

/// What a node was seen to use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Usage {
    /// Thousandths of a core.
    pub cpu_milli: i64,
    /// Bytes of memory.
    pub memory: i64,
    /// When. Pods that started later are not in it.
    pub at: Timestamp,
}

impl Usage {
    /// What the node's object says; `None` if it says nothing, or nothing that can be read.
    pub fn of(node: &Node) -> Option<Self> {
        let text = node.metadata.annotations.get(USAGE_ANNOTATION)?;
        let part = |name: &str| {
            let named = text.split(',').filter_map(|part| part.split_once('='));
            named
                .map(|(key, value)| (key.trim(), value.trim()))
                .find_map(|(key, value)| (key == name).then_some(value))
        };
        let amount = |name: &str| part(name)?.parse::<Quantity>().ok();
        let seen = Self {
            cpu_milli: amount("cpu")?.as_milli(),
            memory: amount("memory")?.as_int(),
            at: part("at")?.parse().ok()?,
        };
        (seen.cpu_milli >= 0 && seen.memory >= 0).then_some(seen)
    }

    /// Has the node's object say so.
    pub fn note(&self, node: &mut Node) {
        let text = format_smolstr!(
            "cpu={}m,memory={},at={}",
            self.cpu_milli,
            self.memory,
            self.at
        );
        node.metadata
            .annotations
            .insert(USAGE_ANNOTATION.into(), text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_as_if_it_were_not_there() {
        let mut node = Node::new("n");
        for (text, seen) in [
            (
                "cpu=1,memory=1Gi,at=1970-01-01T00:00:05Z",
                Some((1_000, 1 << 30)),
            ),
            (" at=1970-01-01T00:00:05Z , memory=0, cpu=5m", Some((5, 0))),
            ("cpu=-1,memory=1Gi,at=1970-01-01T00:00:05Z", None),
            ("cpu=1,memory=1Gi", None),
            ("cpu=much,memory=1Gi,at=1970-01-01T00:00:05Z", None),
            ("", None),
        ] {
            node.metadata
                .annotations
                .insert(USAGE_ANNOTATION.into(), text.into());
            let found = Usage::of(&node);
            assert_eq!(
                found.map(|seen| (seen.cpu_milli, seen.memory)),
                seen,
                "{text}"
            );
            assert!(found.is_none_or(|seen| seen.at == Timestamp::from_secs(5)));
        }
    }
}
