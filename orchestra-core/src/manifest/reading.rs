//! Reads one object out of its tree.

use std::collections::BTreeSet;

use smol_str::SmolStr;

use super::loader::{Loader, Unknown, nearest};
use super::object::Object;
use super::report::{Place, Problem, Reason, Unhonoured};
use super::tree::{Node, Segment, Value, write_path};
use super::wording::wrong_type;
use super::{typed, unhonoured};
use crate::kind::{FieldError, Resource, Scope, validate_object};

/// The most wrong types that are looked for in one object: each costs another reading of it.
const TYPE_ERRORS_MAX: usize = 20;

/// One object being read.
pub(super) struct Reading<'a> {
    pub(super) place: Place,
    /// Where the object stands in its document.
    pub(super) base: &'a [Segment],
    /// For objects that name none.
    pub(super) namespace: &'a SmolStr,
    pub(super) problems: Vec<Problem>,
    pub(super) unhonoured: Vec<Unhonoured>,
}

impl Reading<'_> {
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
                        self.not_honoured(node, path, Reason::NotActedOn(instead));
                    }
                }
                let object = (known.read)(node, self);
                self.unhonoured.sort_by_key(|field| field.place.line);
                object
            }
            Err(Unknown::Kind(_)) if loader.skip_unknown_kinds => {
                self.not_honoured(node, String::new(), Reason::UnknownKind);
                None
            }
            Err(Unknown::Kind(error) | Unknown::Version(error)) => {
                self.problem(node, error);
                None
            }
        }
    }

    pub(super) fn read<K: Resource>(&mut self, node: &Node) -> Option<K> {
        let mut object = self.typed::<K>(node)?;
        let metadata = object.metadata_mut();
        match K::SCOPE {
            Scope::Namespaced if metadata.namespace.is_empty() => {
                metadata.namespace = self.namespace.clone();
            }
            Scope::Cluster if !metadata.namespace.is_empty() => {
                metadata.namespace = SmolStr::default();
                let instead = "the kind is cluster-wide";
                self.not_honoured(
                    node,
                    "metadata.namespace".into(),
                    Reason::NotActedOn(instead),
                );
            }
            _ => {}
        }
        object.set_defaults();
        match validate_object(&object) {
            Ok(()) => Some(object),
            Err(invalid) => {
                // Of several broken rules for one field the first says enough.
                let mut paths = BTreeSet::new();
                for mut error in invalid.errors {
                    if paths.insert(error.path.clone()) {
                        self.add_misspelt(&mut error);
                        self.problem(node, error);
                    }
                }
                None
            }
        }
    }

    /// Reads the types. After a wrong one it goes on without that field, to find the others.
    fn typed<K: Resource>(&mut self, node: &Node) -> Option<K> {
        let mut unread = Vec::new();
        let mut error = match typed::read::<K>(node, &mut unread) {
            Ok(object) => {
                // What the object is has been read already; a kind need not keep it.
                let is_type = |path: &str| matches!(path, "apiVersion" | "kind");
                for field in unread {
                    let path = write_path(&field.path);
                    if is_type(&path) {
                        continue;
                    }
                    let reason = field.meant.map_or(Reason::UnknownField, Reason::Misspelt);
                    self.not_honoured(node, path, reason);
                }
                return Some(object);
            }
            Err(error) => error,
        };
        let mut rest = node.clone();
        for _ in 0..TYPE_ERRORS_MAX {
            let path = error.path.take().unwrap_or_default();
            let written = write_path(&path);
            let found = value_at(node, &path);
            let said = wrong_type(&error.message, found);
            let value = said.value.or_else(|| found.map(Node::describe));
            let value = value.unwrap_or_default();
            self.problem(
                node,
                FieldError::new(written, value, said.problem, said.remedy),
            );
            if !rest.take_out(&path) {
                break;
            }
            match typed::read::<K>(&rest, &mut Vec::new()) {
                Ok(_) => break,
                Err(next) => error = next,
            }
        }
        None
    }

    /// Where a field is missing, somebody may have written it in another way.
    fn add_misspelt(&self, error: &mut FieldError) {
        let missing = self.full_path(error.path.clone());
        let written = self.unhonoured.iter().find_map(|field| {
            let Reason::Misspelt(meant) = field.reason else {
                return None;
            };
            let parent = field.path.rsplit_once('.').map_or("", |(parent, _)| parent);
            let joint = if parent.is_empty() { "" } else { "." };
            (format!("{parent}{joint}{meant}") == missing).then_some(&field.path)
        });
        if let Some(written) = written {
            error.remedy = format!("{}; is {written} meant to be it?", error.remedy);
        }
    }

    pub(super) fn problem(&mut self, node: &Node, mut field: FieldError) {
        let mut place = self.place.clone();
        place.line = node.line_at(&field.path).or(place.line);
        let is_secret = place.object.split(' ').next() == Some("Secret");
        if is_secret && (field.path.starts_with("data") || field.path.starts_with("stringData")) {
            // Errors are logged and shown; what a secret holds is not.
            field.value.clear();
        }
        field.path = self.full_path(field.path);
        self.problems.push(Problem { place, field });
    }

    fn not_honoured(&mut self, node: &Node, path: String, reason: Reason) {
        let mut place = self.place.clone();
        place.line = node.line_at(&path).or(place.line);
        let path = if path.is_empty() {
            path
        } else {
            self.full_path(path)
        };
        if !self
            .unhonoured
            .iter()
            .any(|known| known.path == path && known.place == place)
        {
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

fn value_at<'a>(node: &'a Node, path: &[Segment]) -> Option<&'a Node> {
    path.iter()
        .try_fold(node, |here, segment| match (segment, &here.value) {
            (Segment::Key(key), _) => here.get(key),
            (Segment::Index(index), Value::Seq(items)) => items.get(*index),
            _ => None,
        })
}
