//! The checks of the fuzz targets, on texts from nowhere and on good texts with damage.

#[path = "../../../tests/fuzz/checks.rs"]
mod checks;

use proptest::prelude::*;

const GOOD: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: &m
  name: web
  labels: {app: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  strategy: {rollingUpdate: {maxSurge: 25%, maxUnavailable: 0}}
  template:
    metadata: *m
    spec:
      containers:
      - name: web
        image: web:1
        resources: {requests: {cpu: 250m, memory: 64Mi}}
        ports: [{name: http, containerPort: 80}]
        livenessProbe: {httpGet: {path: /, port: http}, periodSeconds: 5}
      affinity:
        nodeAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: In, values: [a]}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Secret
metadata: {name: key}
data: {token: c2VjcmV0}
";

const GOOD_JSON: &str = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"e": "1"}},
  "spec": {"hostname": null, "containers": [{"name": "a", "image": "x", "tty": false,
    "resources": {"limits": {"cpu": 0.5, "memory": "1Gi"}}, "ports": [{"containerPort": 80}]}]}}
{"apiVersion": "v1", "kind": "List", "items": [
  {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}, "data": {"a": "é\n\u00e9\ud83d\ude00\t"}}
]}
"#;

const PIECES: &[&str] = &[
    "",
    " ",
    "\n",
    "---\n",
    "- ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    "null",
    "~",
    "true",
    "-1",
    "1e999",
    "0x1F",
    "\"",
    "'",
    "|\n",
    ">-\n",
    "&m ",
    "*m",
    "<<: ",
    "!!str ",
    "!x ",
    "#",
    "\t",
    "é",
    "\u{0}",
    ".nan",
    "99999999999999999999",
    "apiVersion: v1\n",
    "kind: List\nitems:\n",
    "metadata: null\n",
    "Pod",
    "25%",
    "2Gi",
    "..",
    "?",
    "%YAML 1.2\n",
    "\r\n",
    "} {",
    "\"a\": ",
    "\\u00",
    "{{ .a }}",
    "\n---\n{\"kind\":",
    "__serde_saphyr_private_spanned",
];

fn damaged(good: &'static str) -> impl Strategy<Value = String> {
    let cut = (0..good.len(), 0_usize..40, prop::sample::select(PIECES));
    prop::collection::vec(cut, 1..6).prop_map(|cuts| {
        let mut text = good.to_owned();
        for (start, length, piece) in cuts {
            let boundary = |at: usize| {
                (0..=at.min(text.len()))
                    .rev()
                    .find(|n| text.is_char_boundary(*n))
            };
            let (from, to) = (
                boundary(start).unwrap_or(0),
                boundary(start + length).unwrap_or(0),
            );
            text.replace_range(from..to.max(from), piece);
        }
        text
    })
}

fn pieces() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PIECES), 0..40).prop_map(|pieces| pieces.concat())
}

#[test]
fn the_good_text_is_good() {
    let found = orchestra_core::manifest::load(GOOD).unwrap();
    assert_eq!((found.objects.len(), found.unhonoured.len()), (4, 0));
    checks::manifest(GOOD);
    let found = orchestra_core::manifest::load(GOOD_JSON).unwrap();
    assert_eq!((found.objects.len(), found.unhonoured.len()), (2, 0));
    checks::manifest(GOOD_JSON);
}

proptest! {
    #[test]
    fn manifests_with_damage(text in damaged(GOOD)) {
        checks::manifest(&text);
    }

    #[test]
    fn json_with_damage(text in damaged(GOOD_JSON)) {
        checks::manifest(&text);
    }

    #[test]
    fn manifests_out_of_pieces(text in pieces()) {
        checks::manifest(&text);
    }

    #[test]
    fn manifests_from_nowhere(text: String) {
        checks::manifest(&text);
    }

    #[test]
    fn quantities_from_nowhere(text in "[-+]?[0-9.]{0,48}([eEinumkKMGTP]{0,2}[-+]?[0-9]{0,4})|.*") {
        checks::quantity(&text);
    }

    #[test]
    fn selectors_from_nowhere(text in "([abin=!,() <>]|notin|in )*|.*") {
        checks::selector(&text);
    }

    #[test]
    fn stored_bytes_from_nowhere(bytes: Vec<u8>, text in damaged(GOOD)) {
        checks::stored(&bytes);
        checks::stored(format!("1{text}").as_bytes());
        checks::stored(b"1{}");
    }
}
