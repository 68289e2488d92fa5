//! Loading as a whole: what people write, and what they get wrong.

#![allow(clippy::unwrap_used)]

use serde::{Deserialize, Serialize};

use super::*;
use crate::kind::{ConfigMap, Deployment, Invalid, Namespace, Pod, Resource, Scope, Service};
use crate::meta::ObjectMeta;

const SHOP: &str = r#"# A shop, as people write one.
apiVersion: v1
kind: Namespace
metadata:
  name: shop
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: web
  namespace: shop
  creationTimestamp: null
  labels:
    app.kubernetes.io/name: web
    tier: "1"
data:
  enabled: "yes"
  nginx.conf: |
    server {
      listen 80;
    }
  folded: >-
    one
    line
---
# Nothing here but a comment.
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  namespace: shop
  labels: &labels
    app.kubernetes.io/name: web
    tier: "1"
spec:
  replicas: 3
  selector:
    matchLabels: *labels
  strategy:
    rollingUpdate: {maxSurge: 25%, maxUnavailable: 0}
  template:
    metadata:
      labels:
        <<: *labels
    spec:
      securityContext:
        runAsNonRoot: true
      imagePullSecrets:
      - name: registry
      containers:
      - name: web
        image: nginx:1.27
        command: ["nginx", "-g", "daemon off;"]
        ports:
        - containerPort: 80
          name: http
        resources:
          requests: {cpu: 250m, memory: 64Mi}
          limits: {cpu: 1, memory: 128974848}
        readinessProbe:
          httpGet: {path: /, port: http}
        env:
        - name: MODE
          value: "on"
        volumeMounts: null
      restartPolicy: Always
      tolerations: []
status:
  replicas: 0
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {tier: "1"}
  ports:
  - {port: 80, targetPort: http, protocol: TCP}
...
"#;

fn problems(text: &str) -> Vec<String> {
    load(text)
        .unwrap_err()
        .problems
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn what_people_write_loads_with_defaults_and_a_report() {
    let found = load(SHOP).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(found.objects.len(), 4);
    let config = found.of::<ConfigMap>().next().unwrap();
    assert_eq!(config.data["enabled"], "yes");
    assert_eq!(config.data["nginx.conf"], "server {\n  listen 80;\n}\n");
    assert_eq!(config.data["folded"], "one line");
    let web = found.of::<Deployment>().next().unwrap();
    assert_eq!(web.spec.template.metadata.labels["tier"], "1");
    assert_eq!(
        found.of::<Service>().next().unwrap().metadata.namespace,
        "shop"
    );
    let report: Vec<_> = found.unhonoured.iter().map(ToString::to_string).collect();
    assert_eq!(
        report,
        [
            "document 3, line 48, Deployment web: spec.template.spec.securityContext is not \
             acted on: pods run as the user of the agent",
            "document 3, line 50, Deployment web: spec.template.spec.imagePullSecrets is not \
             acted on: drivers take images as they are",
        ]
    );
}

#[test]
fn what_was_loaded_loads_again_from_its_json() {
    struct Json;
    impl WithObject for Json {
        type Out = serde_json::Value;
        fn with<K: Resource>(self, object: K) -> serde_json::Value {
            serde_json::to_value(object).unwrap()
        }
        fn with_custom(self, _object: CustomObject) -> serde_json::Value {
            serde_json::Value::Null
        }
    }
    let found = load(SHOP).unwrap();
    let all: Vec<_> = found
        .objects
        .iter()
        .cloned()
        .map(|object| object.with(Json))
        .collect();
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": &all});
    for text in [
        serde_json::to_string(&all).unwrap(),
        serde_json::to_string(&list).unwrap(),
    ] {
        assert_eq!(load(&text).unwrap().objects, found.objects);
    }
}

#[test]
fn all_problems_of_all_documents_are_listed_and_nothing_is_taken() {
    let text = "\
apiVersion: v1
kind: Pod
metadata:
  name: a
  annotations: {count: 3}
spec:
  containers:
  - name: a
    image: x
    resources: {requests: {cpu: lots}}
    ports: [{containerPort: 99999}]
---
apiVersion: apps/v1beta1
kind: Deployment
metadata: {name: b}
---
apiVersion: v1
kind: Namspace
metadata: {name: c}
---
apiVersion: v1
kind: Namespace
metadata: {name: d}
---
apiVersion: v1
kind: Namespace
metadata: {name: d}
---
apiVersion: v1
kind: Namespace
metadata: {name: Not_A_Name}
---
just text
---
kind: Pod
";
    let problems = problems(text);
    let expected = [
        "document 1, line 5, Pod a: metadata.annotations[count]: \"3\" is a number, not a \
         text; write it in quotes",
        "document 1, line 10, Pod a: spec.containers[0].resources.requests[cpu]: \"lots\" is \
         not a quantity: it has no number; write it like",
        "document 1, line 11, Pod a: spec.containers[0].ports[0].containerPort: \"99999\"",
        "document 2, line 13, Deployment b: apiVersion: \"apps/v1beta1\" Deployment is not known \
         in this version; write apps/v1",
        "document 3, line 18, Namspace c: kind: \"Namspace\" no such kind; did you mean Namespace?",
        "document 5, line 27, Namespace d: metadata.name: \"d\" the same object stands at \
         document 4, line 21, Namespace d already; keep one",
        "document 6, line 31, Namespace Not_A_Name: metadata.name: \"Not_A_Name\" is not a DNS",
        "document 7, line 33: \"just text\": it is no object",
        "document 8, line 35: apiVersion: it is missing or no text",
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, expected) in problems.iter().zip(expected) {
        assert!(problem.starts_with(expected), "{problem}\n{expected}");
    }
}

#[test]
fn a_misspelt_field_is_refused_with_its_path() {
    let text = "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: \
                [{name: a, image: x, readynessProbe: {tcpSocket: {port: 1}}}]}}";
    let told = "document 1, line 1, Pod a: spec.containers[0].readynessProbe: is not a known \
                field; did you mean readinessProbe?";
    assert_eq!(problems(text), [told]);
    let lenient = Loader::new().skip_unknown_fields();
    let found = lenient.load(text).unwrap();
    assert_eq!(
        found.unhonoured[0].to_string(),
        told.replace("Probe: is", "Probe is")
    );
    // Where it leaves a hole, one problem says both.
    let holed = text
        .replace("image:", "imgae:")
        .replace("readyness", "readiness");
    let said = problems(&holed);
    assert!(
        said[0].ends_with("; did you mean image by spec.containers[0].imgae?") && said.len() == 1,
        "{said:?}"
    );
    // Also where it is one of several of which one must be there.
    let said = &problems(
        &text
            .replace("tcpSocket", "tcpSockte")
            .replace("readyness", "readiness"),
    );
    assert!(
        said[0].ends_with(
            "exactly one of httpGet, tcpSocket, exec, grpc; did you mean tcpSocket by \
             spec.containers[0].readinessProbe.tcpSockte?"
        ) && said.len() == 1,
        "{said:?}"
    );
}

#[test]
fn broken_rules_of_a_kind_are_named_by_path_and_line() {
    let text = "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: a}\nspec:\n  \
                minAvailable: 1\n  maxUnavailable: 1\n  selector: {}\n";
    let problems = problems(text);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].starts_with("document 1, line 5, PodDisruptionBudget a: spec"),
        "{problems:?}"
    );
}

#[test]
fn a_wrong_type_hides_no_broken_rule() {
    let text = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: Web
  labels: {size: 3}
spec:
  replicas: abc
  selector: {matchLabels: {app: 7}}
  template:
    metadata: {labels: {app: 7}}
    spec:
      volumes: some
      hostname: Not_One
      containers:
      - name: web
        image: ''
        volumeMounts: [{name: data, mountPath: /data}]
        livenessProbe: {httpGet: here, periodSeconds: '5', successThreshold: 2}
      - just text
      - name: web
        image: x
        resources: {limits: {cpu: much}, requests: {cpu: 2, a/b: -1}}
---
apiVersion: v1
kind: Namespace
metadata: {name: Web}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: Web}
spec: {}
";
    let expected = [
        "document 1, line 4, Deployment Web: metadata.name: \"Web\" is not a DNS",
        "document 1, line 5, Deployment Web: metadata.labels[size]: \"3\" is a number",
        "document 1, line 7, Deployment Web: spec.replicas: \"abc\" is a text",
        "document 1, line 8, Deployment Web: spec.selector.matchLabels[app]: \"7\" is a",
        "document 1, line 10, Deployment Web: spec.template.metadata.labels[app]: \"7\" is",
        "document 1, line 12, Deployment Web: spec.template.spec.volumes: \"some\" is a",
        "document 1, line 13, Deployment Web: spec.template.spec.hostname: \"Not_One\" is",
        "document 1, line 16, Deployment Web: spec.template.spec.containers[0].image: is missing",
        "document 1, line 18, Deployment Web: spec.template.spec.containers[0].livenessProbe.httpGet",
        "document 1, line 18, Deployment Web: spec.template.spec.containers[0].livenessProbe.periodS",
        "document 1, line 18, Deployment Web: spec.template.spec.containers[0].livenessProbe.success",
        "document 1, line 19, Deployment Web: spec.template.spec.containers[1]: \"just text\"",
        "document 1, line 20, Deployment Web: spec.template.spec.containers[2].name: \"web\" is the",
        "document 1, line 22, Deployment Web: spec.template.spec.containers[2].resources.limits[cpu]",
        "document 1, line 22, Deployment Web: spec.template.spec.containers[2].resources.requests[a/b]",
        "document 2, line 26, Namespace Web: metadata.name: \"Web\" is not",
        "document 3, line 30, Deployment Web: metadata.name: \"Web\" is not",
        "document 3, line 30, Deployment Web: metadata.name: \"default/Web\" the same object",
        "document 3, line 31, Deployment Web: spec.selector: is missing",
        "document 3, line 31, Deployment Web: spec.template.spec.containers: is missing",
    ];
    let problems = problems(text);
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, expected) in problems.iter().zip(expected) {
        assert!(problem.starts_with(expected), "{problem}\n{expected}");
    }
}

#[test]
fn wrong_types_past_what_is_looked_for_are_told_of() {
    let items = "- {name: 1, image: x, stdin: [3]}\n    ".repeat(80);
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec:\n  containers:\n    {items}"
    );
    let error = load(&text).unwrap_err();
    assert_eq!((error.problems.len(), error.more), (PROBLEMS_MAX, 1));
    let said = error.problems[0].to_string();
    assert!(
        said.starts_with("document 1, line 1, Pod a: more than 100 values are of a wrong type"),
        "{said}"
    );
}

#[test]
fn unknown_kinds_are_refused_or_left_out_with_a_report() {
    let text = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: a}\n---\n\
                apiVersion: v1\nkind: Namespace\nmetadata: {name: b}\n";
    let twice = format!("{text}---\napiVersion: batch/v1\nkind: Job\nmetadata: {{name: c}}\n");
    let said = problems(&twice);
    assert!(said[0].contains("skip_unknown_kinds; known are ConfigMap,"));
    assert!(
        said[1]
            .ends_with("kind: \"Job\" no such kind; register it, or load with skip_unknown_kinds")
    );
    let found = Loader::new().skip_unknown_kinds().load(text).unwrap();
    assert_eq!(found.objects.len(), 1);
    assert_eq!(found.unhonoured[0].reason, Reason::UnknownKind);
    // A wrong version of a known kind is a mistake all the same.
    let wrong = "apiVersion: v2\nkind: Namespace\nmetadata: {name: b}\n";
    assert!(Loader::new().skip_unknown_kinds().load(wrong).is_err());
}

#[test]
fn a_kind_of_another_group_is_another_kind() {
    let text = "apiVersion: serving.example.com/v1\nkind: Service\nmetadata: {name: a}\n";
    let said = &problems(text)[0];
    assert!(
        said.contains("there is a Service, but not in this group"),
        "{said}"
    );
    let found = Loader::new().skip_unknown_kinds().load(text).unwrap();
    assert_eq!(found.unhonoured[0].reason, Reason::UnknownKind);
    // What Kubernetes once had under another name is a mistake, and so is a mixed-up group.
    for wrong in ["extensions/v1beta1", "apps/v1"] {
        let text = text.replace("serving.example.com/v1", wrong);
        let error = Loader::new().skip_unknown_kinds().load(&text).unwrap_err();
        assert!(error.to_string().contains("write v1"), "{error}");
    }
}

#[test]
fn misspelt_words_are_named_with_what_was_meant() {
    for (text, meant) in [
        ("{apiVersion: v1, kind: pod}", "did you mean Pod?"),
        ("{apiVersion: v1, kind: Nod}", "did you mean Node?"),
        (
            "{apiVersion: apps/v1, kind: Deplyoment}",
            "did you mean Deployment?",
        ),
        (
            "{apiversion: v1, kind: Pod}",
            "write apiVersion instead of apiversion",
        ),
        ("{apiVersion: v1, Kind: Pod}", "write kind instead of Kind"),
    ] {
        let said = &problems(text)[0];
        assert!(said.contains(meant), "{said}");
    }
    assert!(!problems("{apiVersion: v1, kind: Job}")[0].contains("did you mean"));
}

#[test]
fn bytes_that_are_no_text_are_named_by_offset_and_line() {
    let file = b"apiVersion: v1\nkind: Namespace\n---\nmetadata: {name: \xe9t\xe9}\n";
    let said = load_bytes(file).unwrap_err().to_string();
    assert!(
        said.starts_with("document 2, line 4: byte 52, 0xe9, is not UTF-8; save it as UTF-8"),
        "{said}"
    );
    for (bytes, remedy) in [(&b"\xff\xfea\0"[..], "UTF-16"), (b"\x1f\x8b\x08", "gunzip")] {
        assert!(load_bytes(bytes).unwrap_err().to_string().contains(remedy));
    }
    assert_eq!(load_bytes(SHOP.as_bytes()), load(SHOP));
}

#[test]
fn deep_nesting_needs_no_deep_stack() {
    let deep = |open: &str, close: &str, levels: usize| {
        let data = format!("{}{}", open.repeat(levels), close.repeat(levels));
        let text = r#"{"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata":
            {"name": "a"}, "revision": 1, "data": "#;
        format!("{text}{data}}}")
    };
    let small = std::thread::Builder::new().stack_size(1 << 20);
    let loads = move || {
        for levels in [50, 60, 100, 1000, 100_000] {
            let _ = load(&deep("[", "]", levels));
            let _ = load(&(deep("[", "]", levels) + " # so it is YAML"));
            let _ = load(&(deep("{a: ", "}", levels)));
        }
        load(&deep("[", "]", 60)).map(|found| found.objects.len())
    };
    assert_eq!(small.spawn(loads).unwrap().join().unwrap(), Ok(1));
}

#[test]
fn lines_of_json_are_named_too() {
    let text = "{\n  \"apiVersion\": \"v1\",\n  \"kind\": \"Namespace\",\n  \"metadata\": \
                {\"name\": \"a\"},\n  \"colour\": \"green\"\n}\n";
    let lenient = Loader::new().skip_unknown_fields();
    let line = |text| lenient.load(text).unwrap().unhonoured[0].place.line;
    assert_eq!(line(text), Some(5));
    assert!(problems(text)[0].starts_with("document 1, line 5, Namespace a: colour: is not"));
    let refused = problems(&text.replace("\"a\"", "7"));
    assert!(
        refused[0].starts_with("document 1, line 4, Namespace"),
        "{refused:?}"
    );
    assert_eq!(refused.len(), 2, "{refused:?}");
    // Whatever of JSON is no YAML.
    let tabs = text.replace("  ", "\t").replace("green", "\\ud83d\\ude00");
    assert_eq!(line(&tabs), Some(5));
}

#[test]
fn json_objects_follow_one_another() {
    let one = |name: &str| {
        format!(
            "{{\"apiVersion\": \"v1\", \"kind\": \"Namespace\", \"metadata\": {{\"name\": \"{name}\"}}}}"
        )
    };
    for between in ["", " ", "\n", "\r\n\t", "\n---\n"] {
        let text = format!("{}{between}{}", one("a"), one("b"));
        assert_eq!(load(&text).unwrap().objects.len(), 2, "{text}");
    }
    // What is wrong in one is told beside what is wrong in those before it.
    let text = format!(
        "{}\n{}\n{}",
        one("A"),
        one("b"),
        one("c").replace(": \"c", ": c")
    );
    let said = problems(&text);
    assert!(
        said[0].starts_with("document 1, line 1, Namespace A: metadata.name"),
        "{said:?}"
    );
    let wanted = "document 3, line 3: it is not readable JSON: expected value at line 3 column 64; \
                  put texts in double quotes";
    assert!(said[1].starts_with(wanted), "{said:?}");
    assert_eq!(said.len(), 2);
}

#[test]
fn what_begins_as_json_and_is_yaml_loads_as_yaml() {
    let name = "\"metadata\": {\"name\": \"a\"}";
    for text in [
        format!("{{\"apiVersion\": v1, kind: Namespace, {name}}}"),
        format!("{{\"apiVersion\": \"v1\", # the oldest\n\"kind\": \"Namespace\", {name},}}"),
        format!("{{apiVersion: v1, \"kind\": \"Namespace\", {name}}}"),
        format!("[{{apiVersion: v1, \"kind\": \"Namespace\", {name}}}]"),
    ] {
        assert_eq!(
            load(&text).map(|found| found.objects.len()),
            Ok(1),
            "{text}"
        );
    }
    for (text, wanted) in [
        (
            "{\"a\": 1}\n# more\n---\n{b: [1}",
            "document 2, line 4: it is not readable YAML",
        ),
        (
            "{\"a\": \"b",
            "document 1, line 1: it is not readable JSON: EOF while",
        ),
        ("{\"a\": {\"b\": 1}\n", "close what is open"),
        ("{\"a\": {{ .Values.a }} }", "it looks like a template"),
        (
            "{\"a\": 1, \"spec\": 1,\n\"spec\": 1}",
            "line 2: \"spec\" stands there twice; put a line",
        ),
        (
            "{\"a\": 01, 'b}",
            "not readable JSON: invalid number at line 1 column 8",
        ),
        ("{\"a\": \"\\q\"}", "write \\\\ for a backslash"),
        ("{a: 1", "not readable YAML: unclosed bracket"),
    ] {
        let said = problems(text).join("\n");
        assert!(said.contains(wanted), "{text}: {said}");
    }
}

#[test]
fn after_a_document_that_cannot_be_read_come_the_others() {
    let text = "a: [1, 2\n---\nkind: Pod\n---\nb: *gone\n--- # c\na: 1\na: 2\n---\n---x: {\n---\nkind: Nod\n";
    let said = problems(text);
    let wanted = [
        "document 1, line 1: it is not readable YAML: unclosed bracket",
        "document 2, line 3: apiVersion",
        "document 3, line 5: it is not readable YAML: alias references unknown",
        "document 4, line 8: \"a\" stands there twice",
        "document 5, line 10: it is not readable YAML",
        "document 6, line 12: apiVersion",
    ];
    assert_eq!(said.len(), wanted.len(), "{said:#?}");
    for (said, wanted) in said.iter().zip(wanted) {
        assert!(said.starts_with(wanted), "{said}\n{wanted}");
    }
}

#[test]
fn what_a_secret_holds_is_in_no_error() {
    for field in [
        "data: {key: hunter!}",
        "data: hunter!",
        "stringData: {key: [hunter!]}",
    ] {
        let text = format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\n{field}\n");
        let said = problems(&text).join("\n");
        assert!(
            said.contains("line 4") && !said.contains("hunter"),
            "{said}"
        );
    }
}

#[test]
fn templates_are_told_from_what_they_make() {
    const TEMPLATE: &str = "it looks like a template: fill it in first";
    for (line, path, remedy) in [
        (
            "{name: 'shop-{{ .Release.Name }}'}",
            "metadata.name",
            TEMPLATE,
        ),
        (
            "{name: a, namespace: '${TEAM}'}",
            "metadata.namespace",
            TEMPLATE,
        ),
        (
            "{name: a, labels: {app: '{% app %}'}}",
            "metadata.labels[app]",
            TEMPLATE,
        ),
    ] {
        let said = &problems(&format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {line}\n"
        ))[0];
        let path = format!("{path}: ");
        assert!(said.contains(&path) && said.contains(remedy), "{said}");
    }
    let pod = |image: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec:\n  containers:\n  \
             - name: a\n    image: {image}\n"
        )
    };
    for image in [
        "shop/web:{{ version }}",
        "'{{ .Values.image }}'",
        "web:${TAG}",
    ] {
        let said = &problems(&pod(image))[0];
        assert!(
            said.contains("has a place to be filled in; it looks like"),
            "{said}"
        );
    }
    // What pods read may be a template of their own.
    let rules = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {rule: '{{ $x }}'}}";
    assert_eq!(load(rules).unwrap().objects.len(), 1);
}

#[test]
fn namespaces_are_filled_in_where_the_kind_has_them() {
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n\
                apiVersion: v1\nkind: Namespace\nmetadata: {name: b, namespace: odd}\n";
    let found = Loader::new().namespace("shop").load(text).unwrap();
    assert_eq!(found.objects[0].key().to_string(), "shop/a");
    assert_eq!(found.objects[1].key().to_string(), "b");
    assert_eq!(found.unhonoured[0].path, "metadata.namespace");
}

#[test]
fn items_of_a_typed_list_need_not_say_what_they_are() {
    let text = r#"{"apiVersion":"v1","kind":"NamespaceList","items":[
        {"metadata":{"name":"a"}}, {"metadata":{"name":"B"}}]}"#;
    assert!(problems(text)[0].contains("Namespace B: items[1].metadata.name: \"B\""));
    assert_eq!(
        load(&text.replace("\"B\"", "\"b\""))
            .unwrap()
            .of::<Namespace>()
            .count(),
        2
    );
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Widget {
    metadata: ObjectMeta,
    size: u8,
}

impl Resource for Widget {
    const API_VERSION: &'static str = "example.com/v1";
    const KIND: &'static str = "Widget";
    const PLURAL: &'static str = "widgets";
    const SCOPE: Scope = Scope::Namespaced;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
    fn set_defaults(&mut self) {}
    fn validate(&self) -> Result<(), Invalid> {
        Ok(())
    }
    fn take_status(&mut self, _current: &Self) {}
    fn same_spec(&self, other: &Self) -> bool {
        self.size == other.size
    }
}

#[test]
fn kinds_of_the_application_load_too() {
    let loader = Loader::new().register::<Widget>();
    let text = "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: a}\nsize: 3\nodd: 1\n";
    assert!(loader.load(text).is_err());
    let found = loader.clone().skip_unknown_fields().load(text).unwrap();
    assert_eq!(
        found.of::<Widget>().next().map(|widget| widget.size),
        Some(3)
    );
    assert_eq!(found.objects[0].key().to_string(), "default/a");
    let odd: Vec<_> = found
        .unhonoured
        .iter()
        .map(|field| field.path.as_str())
        .collect();
    assert_eq!(odd, ["odd"]);
    assert_eq!(found.of::<Pod>().count(), 0);
    let refused = loader
        .load(&text.replace("size: 3\nodd: 1", "size: 300"))
        .unwrap_err();
    assert_eq!(
        (
            refused.problems[0].field.path.as_str(),
            refused.problems.len()
        ),
        ("size", 1)
    );
}

#[test]
fn an_object_that_no_store_takes_is_refused_with_its_size() {
    let env = |n: usize| {
        let all = vec![r#"{"name": "LONG_NAME", "value": "v"}"#; n].join(",");
        format!(
            r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "a"}}, "spec":
            {{"containers": [{{"name": "a", "image": "x", "env": [{all}]}}]}}}}"#
        )
    };
    assert_eq!(load(&env(20_000)).unwrap().objects.len(), 1);
    let said = problems(&env(40_000));
    assert!(
        said[0].starts_with("document 1, line 1, Pod a: it has 1")
            && said[0].ends_with(
                "bytes as it is stored, at most 1048576; keep large data elsewhere and refer to it"
            ),
        "{said:?}"
    );
}

#[test]
fn a_text_past_the_bound_is_refused_clearly() {
    let said = problems(&"#".repeat(10_000_000));
    assert!(
        said[0].contains("10000000 bytes, at most 8388608"),
        "{said:?}"
    );
}

#[test]
fn what_is_not_known_is_told_beside_what_is_wrong() {
    let text = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selectr: {app: web}
  ports: [{port: 808000}]
";
    let error = crate::manifest::load(text).expect_err("no such port");
    let told = error.to_string();
    assert!(
        error.problems.len() == 2
            && told.contains("selectr: is not a known field; did you mean selector?"),
        "{told}"
    );
    assert_eq!(format!("{error:?}"), told);
}

#[test]
fn what_a_status_says_beyond_what_is_known_refuses_nothing() {
    let text = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, \
                spec: {selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: a}}, \
                spec: {containers: [{name: a, image: x}]}}}, \
                status: {replicas: 1, somethingNew: 3}, statusOf: 1}";
    assert_eq!(
        problems(text),
        ["document 1, line 1, Deployment a: statusOf: is not a known field; did you mean status?"]
    );
    for list in [
        "{apiVersion: v1, kind: List, items: [TEXT]}",
        "[TEXT]",
        "TEXT",
    ] {
        let text = list.replace("TEXT", &text.replace(", statusOf: 1", ""));
        let found = load(&text).unwrap();
        let said = found.unhonoured[0].to_string();
        assert!(
            said.ends_with("status.somethingNew is not a known field"),
            "{said}"
        );
    }
}

const ALL_FIELDS: &str = include_str!("all_fields.yaml");

#[test]
fn no_field_of_kubernetes_is_taken_for_a_typing_error() {
    let found = load(ALL_FIELDS).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(found.objects.len(), 9);
}
