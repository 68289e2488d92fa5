//! What to read instead of a value of a wrong type, so that all else can be read and checked, and
//! which broken rules then follow from nothing but that.

use super::tree::{Node, Segment, Value, segments};

/// Puts something that reads where a value of a wrong type stands: what it looks like, or nothing.
/// `wanted` is what the reader said of it. Returns whether anything changed.
pub(super) fn mend(node: &mut Node, path: &[Segment], wanted: &str, again: bool) -> bool {
    let instead = node.at(path).filter(|_| !again).and_then(|found| {
        let is_item = matches!(path.last(), Some(Segment::Index(_)));
        instead(&found.value, wanted, is_item)
    });
    match (instead, node.at_mut(path)) {
        (Some(instead), Some(found)) => {
            found.value = instead;
            true
        }
        _ => node.take_out(path),
    }
}

/// What somebody who wrote `found` may have meant; for an item of a list, whose place must not be
/// lost, at least something empty.
fn instead(found: &Value, message: &str, is_item: bool) -> Option<Value> {
    let (_, wanted) = message.rsplit_once(", expected ")?;
    let number = matches!(wanted, "u8" | "u16" | "u32" | "u64" | "i32" | "i64");
    match found {
        Value::Bool(_) | Value::Int(_) | Value::UInt(_) | Value::Float(_)
            if wanted == "a string" =>
        {
            let line = 0;
            let value = found.clone();
            Some(Value::String(Node { line, value }.describe()))
        }
        Value::String(text) if number => text.parse().ok().map(Value::Int),
        Value::String(text) if wanted == "a boolean" => text.parse().ok().map(Value::Bool),
        _ if !is_item => None,
        _ if wanted == "a string" => Some(Value::String(String::new())),
        _ if wanted == "a map" || wanted.starts_with("struct ") => Some(Value::Map(Vec::new())),
        _ => None,
    }
}

/// Which rules ask what a field says beside their own: a rule of one on the right may be broken
/// only because of one on the left, next to it or around it.
const ASKED: &[(&[&str], &[&str])] = &[
    (&["volumes"], &["volumeMounts", "volumeDevices"]),
    (&["resourceClaims"], &["claims"]),
    (&["limits"], &["requests"]),
    (
        &["selector", "matchLabels", "matchExpressions", "labels"],
        &["selector", "labels"],
    ),
    (&["operator"], &["key", "value", "values"]),
    (&["effect"], &["tolerationSeconds"]),
    (&["whenUnsatisfiable"], &["minDomains", "topologyKey"]),
    (&["labelSelector"], &["matchLabelKeys", "mismatchLabelKeys"]),
    (&["hostNetwork", "containerPort"], &["hostPort"]),
    (&["port"], &["targetPort"]),
    (
        &["restartPolicy"],
        &[
            "livenessProbe",
            "readinessProbe",
            "startupProbe",
            "lifecycle",
        ],
    ),
    (&["dnsPolicy", "dnsConfig"], &["nameservers"]),
    (
        &["type", "clusterIP"],
        &["ports", "nodePort", "clusterIP", "externalName"],
    ),
    (&["scopeName"], &["operator", "values"]),
];

/// Whether a broken rule at `rule` may follow from nothing but that `mended` was no value.
pub(super) fn follows(rule: &str, mended: &str) -> bool {
    let (rule, mended): (Vec<_>, Vec<_>) = (segments(rule).collect(), segments(mended).collect());
    if rule.starts_with(&mended) || mended.starts_with(&rule) {
        return true;
    }
    mended.iter().enumerate().any(|(n, field)| {
        let mut asking = ASKED.iter().filter(|(asked, _)| asked.contains(field));
        // Amounts are compared one with its namesake.
        let namesakes = *field != "limits" || rule.get(n + 1..n + 2) == mended.get(n + 1..n + 2);
        rule.starts_with(&mended[..n])
            && (namesakes || mended.len() == n + 1)
            && asking.any(|(_, rules)| rule[n..].iter().any(|field| rules.contains(field)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_rule_follows_from_what_it_asks() {
        for (rule, mended, so) in [
            ("spec.replicas", "spec.replicas", true),
            ("spec.volumes[0].name", "spec.volumes[0]", true),
            ("spec.livenessProbe", "spec.livenessProbe.httpGet", true),
            ("spec.selector", "spec.replicas", false),
            (
                "spec.containers[0].volumeMounts[1].name",
                "spec.volumes",
                true,
            ),
            (
                "spec.containers[0].volumeMounts[1].mountPath",
                "spec.replicas",
                false,
            ),
            ("spec.containers[1].name", "spec.containers[0].name", false),
            (
                "spec.tolerations[0].value",
                "spec.tolerations[0].operator",
                true,
            ),
            (
                "spec.tolerations[1].value",
                "spec.tolerations[0].operator",
                false,
            ),
            (
                "spec.template.metadata.labels",
                "spec.selector.matchLabels[app]",
                true,
            ),
            ("metadata.labels[x]", "spec.selector.matchLabels", false),
            ("a.requests[cpu]", "a.limits[cpu]", true),
            ("a.requests[memory]", "a.limits[cpu]", false),
            ("a.requests[memory]", "a.limits", true),
            ("spec.ports[2].nodePort", "spec.type", true),
        ] {
            assert_eq!(follows(rule, mended), so, "{rule} after {mended}");
        }
    }
}
