//! Reads a text into objects, or says all that is wrong with it.

use std::collections::BTreeMap;

use smol_str::SmolStr;

use super::object::{CustomObject, Object, built_in};
use super::reading::Reading;
use super::report::{ManifestError, Place, Problem, Unhonoured};
use super::text::{Malformed, documents, not_utf8};
use super::tree::{Node, Segment, Value, write_path};
use crate::kind::{FieldError, Resource};

/// What a text holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifests {
    /// The objects, in the order of the text, with defaults filled in and valid.
    pub objects: Vec<Object>,
    /// What the text says and what will not be honoured, in the order of the text. Show it to
    /// whoever wrote the text.
    pub unhonoured: Vec<Unhonoured>,
}

impl Manifests {
    /// The objects of one kind.
    pub fn of<K: Resource>(&self) -> impl Iterator<Item = &K> {
        self.objects.iter().filter_map(Object::get)
    }
}

/// Reads texts into objects. Made with what it should accept, and used as often as wanted.
#[derive(Clone, Debug)]
pub struct Loader {
    kinds: Vec<KnownKind>,
    namespace: SmolStr,
    pub(super) skip_unknown_kinds: bool,
    skip_unknown_fields: bool,
}

/// A kind that a loader knows, and how it reads it.
#[derive(Clone, Copy, Debug)]
pub(super) struct KnownKind {
    pub(super) api_version: &'static str,
    pub(super) kind: &'static str,
    pub(super) read: fn(&Node, &mut Reading<'_>) -> Option<Object>,
    pub(super) built_in: bool,
}

impl KnownKind {
    pub(super) fn of<K: Resource>() -> Self
    where
        Object: From<K>,
    {
        let read = |node: &Node, at: &mut Reading<'_>| at.read::<K>(node).map(Object::from);
        Self {
            api_version: K::API_VERSION,
            kind: K::KIND,
            read,
            built_in: true,
        }
    }

    fn custom<K: Resource>() -> Self {
        let read = |node: &Node, at: &mut Reading<'_>| {
            at.read::<K>(node)
                .map(|object| Object::Custom(CustomObject::new(object)))
        };
        Self {
            api_version: K::API_VERSION,
            kind: K::KIND,
            read,
            built_in: false,
        }
    }
}

impl Default for Loader {
    fn default() -> Self {
        Self::new()
    }
}

impl Loader {
    /// Accepts the kinds of this crate and their fields, refuses others, and puts objects without a
    /// namespace into `default`.
    pub fn new() -> Self {
        Self {
            kinds: built_in(),
            namespace: "default".into(),
            skip_unknown_kinds: false,
            skip_unknown_fields: false,
        }
    }

    /// Accepts a kind of the application too. It comes out as [`Object::Custom`], and takes the
    /// place of a kind of the same name and version.
    #[must_use]
    pub fn register<K: Resource>(mut self) -> Self {
        self.kinds
            .retain(|known| (known.api_version, known.kind) != (K::API_VERSION, K::KIND));
        self.kinds.push(KnownKind::custom::<K>());
        self
    }

    /// Puts objects without a namespace into this one.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<SmolStr>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Leaves out objects of unknown kinds and reports them, instead of refusing the text: for
    /// manifests that were written for more than this.
    #[must_use]
    pub fn skip_unknown_kinds(mut self) -> Self {
        self.skip_unknown_kinds = true;
        self
    }

    /// Leaves out fields that no kind has and reports them in [`Manifests::unhonoured`], instead of
    /// refusing the text: for manifests that were written for a later version. A misspelt `replicas`
    /// then counts as left out.
    #[must_use]
    pub fn skip_unknown_fields(mut self) -> Self {
        self.skip_unknown_fields = true;
        self
    }

    /// Reads a text: YAML with any number of documents, JSON values one after another, lists of
    /// objects, and objects of kind `List`.
    ///
    /// # Errors
    ///
    /// All that is wrong with the text, if anything is; then nothing of it is taken.
    pub fn load(&self, text: &str) -> Result<Manifests, ManifestError> {
        let mut load = Load::of(self);
        for (n, document) in documents(text).into_iter().enumerate() {
            match document {
                Ok(node) => load.object_or_list(node, n + 1, &[]),
                Err(malformed) => load.malformed(malformed),
            }
        }
        if load.problems.is_empty() {
            Ok(load.found)
        } else {
            Err(ManifestError::new(load.problems))
        }
    }

    /// Reads the bytes of a file, as [`load`](Self::load) reads a text.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load), and for bytes that are no UTF-8 the place of the first.
    pub fn load_bytes(&self, bytes: &[u8]) -> Result<Manifests, ManifestError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.load(text),
            Err(error) => {
                let mut load = Load::of(self);
                load.malformed(not_utf8(bytes, error.valid_up_to()));
                Err(ManifestError::new(load.problems))
            }
        }
    }

    pub(super) fn known(&self, api_version: &str, kind: &str) -> Result<&KnownKind, Unknown> {
        let of_kind: Vec<_> = self
            .kinds
            .iter()
            .filter(|known| known.kind == kind)
            .collect();
        if let Some(known) = of_kind
            .iter()
            .find(|known| known.api_version == api_version)
        {
            return Ok(known);
        }
        if !of_kind.is_empty() {
            let versions: Vec<_> = of_kind.iter().map(|known| known.api_version).collect();
            let versions = versions.join(" or ");
            // A group that kinds of ours are in has no others of the same name.
            let ours = |known: &KnownKind| group(known.api_version) == group(api_version);
            let mistaken = self.kinds.iter().any(ours) || OLD_GROUPS.contains(&group(api_version));
            let field = |problem: String, remedy: String| {
                FieldError::new("apiVersion", api_version, problem, remedy)
            };
            if mistaken {
                let problem = format!("{kind} is not known in this version");
                return Err(Unknown::Version(field(
                    problem,
                    format!("write {versions}"),
                )));
            }
            let problem = format!("there is a {kind}, but not in this group");
            let remedy = format!(
                "write {versions} if that one is meant; or register it, or load with \
                 skip_unknown_kinds"
            );
            return Err(Unknown::Kind(field(problem, remedy)));
        }
        let names = self.kinds.iter().map(|known| known.kind);
        let remedy = match nearest(kind, names) {
            Some(near) => format!("did you mean {near}?"),
            None => "register it, or load with skip_unknown_kinds".to_owned(),
        };
        let field = FieldError::new("kind", kind, NO_SUCH_KIND, remedy);
        Err(Unknown::Kind(field))
    }

    /// The kinds it knows, for people.
    pub(super) fn kinds_known(&self) -> String {
        let names: Vec<_> = self.kinds.iter().map(|known| known.kind).collect();
        format!("known are {}", names.join(", "))
    }
}

/// Groups that kinds have left: whoever names one means the kind of today.
const OLD_GROUPS: &[&str] = &["extensions"];

/// The group of an `apiVersion`; empty for the core.
fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

const NO_SUCH_KIND: &str = "no such kind";

/// Why an object cannot be read as any kind.
pub(super) enum Unknown {
    /// It is of a kind that is not known: somebody else's, maybe.
    Kind(FieldError),
    /// It is of a known kind in a version that is not.
    Version(FieldError),
}

/// The word most like `wanted`, if one differs from it by at most two letters, capitals aside, and
/// by less than half of it.
pub(super) fn nearest<'a>(
    wanted: &str,
    words: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let farthest = 2.min(wanted.len().saturating_sub(1) / 2);
    words
        .into_iter()
        .map(|word| (difference(wanted, word), word))
        .filter(|(difference, _)| *difference <= farthest)
        .min_by_key(|(difference, _)| *difference)
        .map(|(_, word)| word)
}

/// How many letters two words differ by, capitals aside; more than two may be told as any such
/// number.
fn difference(one: &str, other: &str) -> usize {
    let (one, other) = (one.to_ascii_lowercase(), other.to_ascii_lowercase());
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len().abs_diff(other.len()) > 2 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

/// One load under way.
struct Load<'a> {
    loader: &'a Loader,
    found: Manifests,
    problems: Vec<Problem>,
    /// Where each object was first met, by kind and key.
    met: BTreeMap<(&'static str, String), Place>,
    /// Somebody was told which kinds are known.
    kinds_told: bool,
}

impl<'a> Load<'a> {
    fn of(loader: &'a Loader) -> Self {
        let (found, problems, met) = Default::default();
        Self {
            loader,
            found,
            problems,
            met,
            kinds_told: false,
        }
    }

    fn malformed(&mut self, malformed: Malformed) {
        let Malformed {
            document,
            line,
            problem,
            remedy,
        } = malformed;
        let place = Place {
            document,
            line,
            object: String::new(),
        };
        let field = FieldError::new("", "", problem, remedy);
        self.problems.push(Problem { place, field });
    }

    /// Takes lists apart. `base` is where `node` stands in its document.
    fn object_or_list(&mut self, node: Node, document: usize, base: &[Segment]) {
        let inside = |last: &[Segment]| [base, last].concat();
        let is_list = node.text("kind").is_some_and(|kind| kind.ends_with("List"))
            && node.get("items").is_some();
        match node.value {
            Value::Seq(items) => {
                for (n, item) in items.into_iter().enumerate() {
                    self.object_or_list(item, document, &inside(&[Segment::Index(n)]));
                }
            }
            Value::Map(entries) if is_list => {
                let list = Node {
                    line: node.line,
                    value: Value::Map(entries),
                };
                self.list(list, document, base);
            }
            value => self.object(
                &Node {
                    line: node.line,
                    value,
                },
                document,
                base,
            ),
        }
    }

    /// The items of a `List`, or of a `PodList`, whose items need not repeat what they are.
    fn list(&mut self, mut list: Node, document: usize, base: &[Segment]) {
        let api_version = list.get("apiVersion").cloned();
        let kind = list
            .text("kind")
            .and_then(|kind| kind.strip_suffix("List"))
            .map(str::to_owned);
        let kind = kind.filter(|kind| !kind.is_empty());
        let Value::Map(entries) = &mut list.value else {
            return;
        };
        let items = entries.iter_mut().find(|(key, _)| key == "items");
        let items = match items.map(|(_, node)| std::mem::replace(&mut node.value, Value::Null)) {
            Some(Value::Seq(items)) => items,
            Some(Value::Null) | None => return,
            Some(_) => {
                let place = Place {
                    document,
                    line: list.line_at("items"),
                    ..Place::default()
                };
                let path = write_path(&[base, &[Segment::Key("items".into())]].concat());
                let field = FieldError::new(path, "", "it is no list", "write a list of objects");
                self.problems.push(Problem { place, field });
                return;
            }
        };
        for (n, mut item) in items.into_iter().enumerate() {
            if let (Value::Map(fields), Some(kind)) = (&mut item.value, &kind) {
                let line = item.line;
                let mut fill = |key: &str, value: Option<Value>| {
                    if let Some(value) = value
                        && !fields.iter().any(|(name, _)| name == key)
                    {
                        fields.push((key.to_owned(), Node { line, value }));
                    }
                };
                fill("kind", Some(Value::String(kind.clone())));
                fill(
                    "apiVersion",
                    api_version.as_ref().map(|node| node.value.clone()),
                );
            }
            let at = [Segment::Key("items".into()), Segment::Index(n)];
            self.object_or_list(item, document, &[base, &at].concat());
        }
    }

    fn object(&mut self, node: &Node, document: usize, base: &[Segment]) {
        let place = Place {
            document,
            line: (node.line > 0).then_some(node.line),
            ..Place::default()
        };
        let mut reading = Reading::new(place, base, &self.loader.namespace);
        let object = reading.any(node, self.loader);
        if !self.loader.skip_unknown_fields {
            reading.refuse_unknown();
        }
        if let Some(named) = reading.named.take() {
            if let Some(first) = self.met.get(&named) {
                let problem = format!("the same object stands at {first} already");
                let (_, key) = named.1.split_once(' ').unwrap_or_default();
                let field = FieldError::new("metadata.name", key, problem, "keep one");
                reading.problem(node, field);
            } else {
                self.met.insert(named, reading.place.clone());
            }
        }
        self.found.objects.extend(object);
        let unknown = |problem: &&mut Problem| problem.field.problem == NO_SUCH_KIND;
        if !self.kinds_told
            && let Some(problem) = reading.problems.iter_mut().find(unknown)
        {
            // Once is enough: others are often all of what else a text was written for.
            let known = self.loader.kinds_known();
            problem.field.remedy = format!("{}; {known}", problem.field.remedy);
            self.kinds_told = true;
        }
        reading.problems.sort_by_key(|problem| problem.place.line);
        self.problems.append(&mut reading.problems);
        self.found.unhonoured.append(&mut reading.unhonoured);
    }
}
