//! The one predicate set: what proposes a placement and what commits it both ask here.
