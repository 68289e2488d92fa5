//! Reads one object out of its tree.

use std::collections::BTreeSet;

use smol_str::SmolStr;

use super::loader::{Loader, Unknown, nearest};
use super::mend::{follows, mend};
use super::object::Object;
use super::report::{PROBLEMS_MAX, Place, Problem, Reason, Unhonoured};
use super::text::VALUES_MAX;
use super::tree::{Node, Segment, Value, write_path};
use super::typed::{self, Unread};
use super::unhonoured;
use super::wording::{TEMPLATE, is_template, wrong_type};
use crate::codec::{self, CodecProblem, OBJECT_BYTES_MAX};
use crate::error::report;
use crate::kind::{FieldError, Resource, Scope, validate_object};

/// How many values are read to find all wrong types of one object: each costs another reading of
/// it. Some are found whatever that costs.
const VALUES_READ_MAX: usize = 4 * VALUES_MAX;
/// So many wrong types are found in one object, however large it is.
const TYPE_ERRORS_MIN: usize = 10;

/// One object being read.
pub(super) struct Reading<'a> {
    pub(super) place: Place,
    /// Where the object stands in its document.
    pub(super) base: &'a [Segment],
    /// For objects that name none.
    pub(super) namespace: &'a SmolStr,
    pub(super) problems: Vec<Problem>,
    pub(super) unhonoured: Vec<Unhonoured>,
    /// The paths of those, and of fields that ask for what happens anyway.
    told: BTreeSet<String>,
    /// The paths of misspelt fields that a problem names already.
    blamed: BTreeSet<String>,
    /// What the object is, once that is known: its kind, and what tells it from others of that.
    pub(super) named: Option<(&'static str, String)>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(place: Place, base: &'a [Segment], namespace: &'a SmolStr) -> Self {
        Self {
            place,
            base,
            namespace,
            problems: Vec::new(),
            unhonoured: Vec::new(),
            told: BTreeSet::new(),
            blamed: BTreeSet::new(),
            named: None,
        }
    }

    pub(super) fn any(&mut self, node: &Node, loader: &Loader) -> Option<Object> {
        if !matches!(node.value, Value::Map(_)) {
            let problem = "it is no object";
            let remedy = "write a mapping with apiVersion, kind and metadata";
            self.problem(node, FieldError::new("", node.describe(), problem, remedy));
            return None;
        }
        let mut named = |key: &str| match node.get(key) {
            Some(Node {
                value: Value::String(text),
                ..
            }) if !text.is_empty() => Some(text.as_str()),
            other => {
                let value = other.map(Node::describe).unwrap_or_default();
                let known = ["apiVersion", "kind", "metadata", "spec", "data"];
                let misspelt = node.keys().find(|written| {
                    !known.contains(written) && nearest(written, known) == Some(key)
                });
                let remedy = match misspelt {
                    Some(misspelt) => format!("write {key} instead of {misspelt}"),
                    None => "every object names its apiVersion and kind, as texts".to_owned(),
                };
                self.problem(
                    node,
                    FieldError::new(key, value, "it is missing or no text", remedy),
                );
                None
            }
        };
        let (api_version, kind) = (named("apiVersion"), named("kind"));
        let (api_version, kind) = (api_version?, kind?);
        let name = node.get("metadata").and_then(|metadata| {
            metadata
                .text("name")
                .or_else(|| metadata.text("generateName"))
        });
        self.place.object = match name {
            Some(name) => format!("{kind} {name}"),
            None => kind.to_owned(),
        };
        match loader.known(api_version, kind) {
            Ok(known) => {
                // First, for it knows more of a field than that it is unknown.
                if known.built_in {
                    for (path, instead) in unhonoured::find(kind, node) {
                        if let Some(instead) = instead {
                            let line = node.line_at(&path);
                            self.not_honoured(line, path, Reason::NotActedOn(instead));
                        } else {
                            self.told.insert(self.full_path(path));
                        }
                    }
                }
                let object = (known.read)(node, self);
                self.unhonoured.sort_by_key(|field| field.place.line);
                object
            }
            Err(Unknown::Kind(_)) if loader.skip_unknown_kinds => {
                self.not_honoured(None, String::new(), Reason::UnknownKind);
                None
            }
            Err(Unknown::Kind(error) | Unknown::Version(error)) => {
                self.problem(node, error);
                None
            }
        }
    }

    pub(super) fn read<K: Resource>(&mut self, node: &Node) -> Option<K> {
        let (mut object, mended) = self.typed::<K>(node)?;
        let metadata = object.metadata_mut();
        match K::SCOPE {
            Scope::Namespaced if metadata.namespace.is_empty() => {
                metadata.namespace = self.namespace.clone();
            }
            Scope::Cluster if !metadata.namespace.is_empty() => {
                metadata.namespace = SmolStr::default();
                let path = "metadata.namespace";
                let instead = Reason::NotActedOn("the kind is cluster-wide");
                self.not_honoured(node.line_at(path), path.into(), instead);
            }
            _ => {}
        }
        if !metadata.name.is_empty() {
            let key = format!("{} {}", K::API_VERSION, object.key());
            self.named = Some((K::KIND, key));
        }
        object.set_defaults();
        // Of several broken rules for one field the first says enough.
        let mut paths = BTreeSet::new();
        let broken = validate_object(&object).err().unwrap_or_default();
        for mut error in broken.errors {
            if !mended.iter().any(|mended| follows(&error.path, mended))
                && paths.insert(error.path.clone())
            {
                self.add_misspelt(&mut error);
                self.problem(node, error);
            }
        }
        if self.problems.is_empty() {
            self.check_size(node, &object);
        }
        self.problems.is_empty().then_some(object)
    }

    /// No store takes what is too large: better to say so before any of the text is applied.
    fn check_size<K: Resource>(&mut self, node: &Node, object: &K) {
        let Err(error) = codec::encode(object) else {
            return;
        };
        let (problem, remedy) = match error.problem() {
            CodecProblem::TooLarge { bytes } => (
                format!("it has {bytes} bytes as it is stored, at most {OBJECT_BYTES_MAX}"),
                "keep large data elsewhere and refer to it",
            ),
            _ => (
                report(&error).to_string(),
                "write the fields as the kind has them",
            ),
        };
        self.problem(node, FieldError::new("", "", problem, remedy));
    }

    /// Reads the types. In the place of a wrong one it reads another, so that all that is wrong can
    /// be told. Beside the object, the paths of these.
    fn typed<K: Resource>(&mut self, node: &Node) -> Option<(K, Vec<String>)> {
        let mut unread = Vec::new();
        let mut error = match typed::read::<K>(node, &mut unread) {
            Ok(object) => {
                self.add_unread(unread);
                return Some((object, Vec::new()));
            }
            Err(error) => error,
        };
        let (mut rest, mut mended) = (node.clone(), Vec::new());
        let readings = (VALUES_READ_MAX / node.count()).clamp(TYPE_ERRORS_MIN, PROBLEMS_MAX);
        for _ in 0..readings {
            let path = error.path.take().unwrap_or_default();
            let written = write_path(&path);
            let again = mended.contains(&written);
            if !again {
                let found = node.at(&path);
                let said = wrong_type(&error.message, found);
                let value = said.value.or_else(|| found.map(Node::describe));
                let field = FieldError::new(
                    written.clone(),
                    value.unwrap_or_default(),
                    said.problem,
                    said.remedy,
                );
                self.problem(node, field);
                mended.push(written);
            }
            if !mend(&mut rest, &path, &error.message, again) {
                return None;
            }
            let mut unread = Vec::new();
            match typed::read::<K>(&rest, &mut unread) {
                Ok(object) => {
                    self.add_unread(unread);
                    return Some((object, mended));
                }
                Err(next) => error = next,
            }
        }
        let problem = format!("more than {readings} values are of a wrong type");
        let remedy = "correct these, and load it again to be told of others";
        self.problem(node, FieldError::new("", "", problem, remedy));
        None
    }

    fn add_unread(&mut self, unread: Vec<Unread>) {
        // What the object is has been read already; a kind need not keep it.
        let is_type = |path: &str| matches!(path, "apiVersion" | "kind");
        for field in unread {
            let path = write_path(&field.path);
            if !is_type(&path) {
                let reason = field.meant.map_or(Reason::UnknownField, Reason::Misspelt);
                self.not_honoured((field.line > 0).then_some(field.line), path, reason);
            }
        }
    }

    /// Where a field is missing, or one of several, somebody may have written it in another way.
    fn add_misspelt(&mut self, error: &mut FieldError) {
        let missing = self.full_path(error.path.clone());
        let written = self.unhonoured.iter().find_map(|field| {
            let Reason::Misspelt(meant) = field.reason else {
                return None;
            };
            let parent = field.path.rsplit_once('.').map_or("", |(parent, _)| parent);
            let joint = if parent.is_empty() { "" } else { "." };
            let it = format!("{parent}{joint}{meant}") == missing;
            let one_of =
                parent == missing && (names(&error.problem, meant) || names(&error.remedy, meant));
            (it || one_of).then_some((field.path.clone(), meant))
        });
        if let Some((written, meant)) = written {
            error.remedy = format!("{}; did you mean {meant} by {written}?", error.remedy);
            self.blamed.insert(written);
        }
    }

    /// Makes problems of the fields that are not known, except those of a status, which nobody takes
    /// from a text, and those that a problem names.
    pub(super) fn refuse_unknown(&mut self) {
        let status = self.full_path("status".to_owned());
        let of_status = |path: &str| {
            path.strip_prefix(status.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let all = std::mem::take(&mut self.unhonoured);
        for Unhonoured {
            place,
            path,
            reason,
        } in all
        {
            let remedy = match reason {
                Reason::Misspelt(meant) => format!("did you mean {meant}?"),
                Reason::UnknownField => "leave it out, or load with skip_unknown_fields".to_owned(),
                _ => String::new(),
            };
            if remedy.is_empty() || of_status(&path) {
                self.unhonoured.push(Unhonoured {
                    place,
                    path,
                    reason,
                });
            } else if !self.blamed.contains(&path) {
                let field = FieldError::new(path, "", "is not a known field", remedy);
                self.problems.push(Problem { place, field });
            }
        }
    }

    pub(super) fn problem(&mut self, node: &Node, mut field: FieldError) {
        let mut place = self.place.clone();
        place.line = node.line_at(&field.path).or(place.line);
        if is_template(&field.value) {
            TEMPLATE.clone_into(&mut field.remedy);
        }
        let is_secret = place.object.split(' ').next() == Some("Secret");
        if is_secret && (field.path.starts_with("data") || field.path.starts_with("stringData")) {
            // Errors are logged and shown; what a secret holds is not.
            field.value.clear();
        }
        field.path = self.full_path(field.path);
        self.problems.push(Problem { place, field });
    }

    /// Of several reasons for one field the first counts.
    fn not_honoured(&mut self, line: Option<u64>, path: String, reason: Reason) {
        let mut place = self.place.clone();
        place.line = line.or(place.line);
        let path = if path.is_empty() {
            path
        } else {
            self.full_path(path)
        };
        if self.told.insert(path.clone()) {
            self.unhonoured.push(Unhonoured {
                place,
                path,
                reason,
            });
        }
    }

    /// A path within the object as one within its document.
    fn full_path(&self, path: String) -> String {
        let base = write_path(self.base);
        match (base.is_empty(), path.is_empty() || path.starts_with('[')) {
            (true, _) => path,
            (false, true) => base + &path,
            (false, false) => format!("{base}.{path}"),
        }
    }
}

/// Whether a sentence holds a word.
fn names(sentence: &str, word: &str) -> bool {
    let mut words = sentence.split(|c: char| !c.is_ascii_alphanumeric());
    words.any(|one| one == word)
}
