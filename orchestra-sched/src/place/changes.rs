//! Kinds of change to a cluster: what just happened, and what a waiting pod waits for.

use std::fmt;

/// A set of kinds of change.
///
/// The [`SnapshotBuilder`](crate::snapshot::SnapshotBuilder) says which a change was, and the
/// explanation of an unplaced pod which could help it; a pod is worth another plan once the two
/// [meet](Self::meet).
#[derive(Clone, Copy, Default, Eq, Hash, PartialEq)]
pub struct Changes(u16);

impl Changes {
    /// Nothing that matters here.
    pub const NONE: Self = Self(0);
    /// A node was added.
    pub const NODE_ADDED: Self = Self(1);
    /// A node was removed.
    pub const NODE_REMOVED: Self = Self(1 << 1);
    /// A node has more of something to give than before.
    pub const NODE_GREW: Self = Self(1 << 2);
    /// A node has less of something to give than before.
    pub const NODE_SHRANK: Self = Self(1 << 3);
    /// A node's labels changed.
    pub const NODE_LABELS: Self = Self(1 << 4);
    /// A node's taints changed.
    pub const NODE_TAINTS: Self = Self(1 << 5);
    /// A node was opened to new pods.
    pub const NODE_OPENED: Self = Self(1 << 6);
    /// A node was closed to new pods.
    pub const NODE_CLOSED: Self = Self(1 << 7);
    /// A pod began to count against a node.
    pub const POD_ADDED: Self = Self(1 << 8);
    /// A pod counts no longer, or for less.
    pub const POD_REMOVED: Self = Self(1 << 9);
    /// The waiting pod itself was changed.
    pub const POD_ITSELF: Self = Self(1 << 10);
    /// A namespace's labels changed.
    pub const NAMESPACE_LABELS: Self = Self(1 << 11);
    /// Where the storage of a claim can be used changed.
    pub const VOLUMES: Self = Self(1 << 12);
    /// A pod of a gang began to count against a node: what the rest of its gang may wait for.
    pub const GANG_GREW: Self = Self(1 << 13);
    /// Any change at all.
    pub const ANY: Self = Self((1 << 14) - 1);

    const NAMES: [(Self, &str); 14] = [
        (Self::NODE_ADDED, "a node is added"),
        (Self::NODE_REMOVED, "a node is removed"),
        (Self::NODE_GREW, "a node grows"),
        (Self::NODE_SHRANK, "a node shrinks"),
        (Self::NODE_LABELS, "a node's labels change"),
        (Self::NODE_TAINTS, "a node's taints change"),
        (Self::NODE_OPENED, "a node is opened to new pods"),
        (Self::NODE_CLOSED, "a node is closed to new pods"),
        (Self::POD_ADDED, "a pod is placed"),
        (Self::POD_REMOVED, "a pod leaves"),
        (Self::POD_ITSELF, "the pod itself changes"),
        (Self::NAMESPACE_LABELS, "a namespace's labels change"),
        (Self::VOLUMES, "a volume can be used elsewhere"),
        (Self::GANG_GREW, "another pod of its gang comes"),
    ];

    /// The kinds of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The kinds of this one that are not in the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether they have a kind in common.
    pub const fn meet(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing changes");
        }
        let mut separator = "";
        for (_, name) in Self::NAMES.iter().filter(|(change, _)| self.meet(*change)) {
            write!(f, "{separator}{name}")?;
            separator = " or ";
        }
        Ok(())
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ANY => f.write_str("Changes(any)"),
            some => write!(f, "Changes({some})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_reads_as_a_sentence() {
        let helps = Changes::NODE_ADDED.with(Changes::POD_REMOVED);
        assert_eq!(helps.to_string(), "a node is added or a pod leaves");
        assert!(helps.meet(Changes::ANY) && !helps.meet(Changes::NODE_LABELS));
        assert!(
            Changes::NAMES
                .iter()
                .fold(Changes::NONE, |all, (one, _)| all.with(*one))
                == Changes::ANY
        );
    }
}
