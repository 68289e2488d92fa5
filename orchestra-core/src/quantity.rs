//! Amounts: exact integers with Kubernetes' suffixes.
