//! From text to trees: YAML with many documents, or JSON, both bounded.

use std::io::{self, Read as _};

use serde_saphyr::Options;

use super::report::PROBLEMS_MAX;
use super::tree::Node;
use super::{json, wording};

/// The largest text that is read at once, in bytes.
pub const TEXT_BYTES_MAX: usize = 8 << 20;
/// The most documents in one text.
pub const DOCUMENTS_MAX: usize = 10_000;
/// How deep one document may be nested, aliases aside.
pub const DEPTH_MAX: usize = 64;
/// How many values one document may hold.
pub const VALUES_MAX: usize = 500_000;
/// How many values of one document may come from aliases.
pub(super) const ALIASED_VALUES_MAX: usize = 100_000;
/// How deep aliases may refer to what holds aliases itself.
pub(super) const ALIAS_DEPTH_MAX: usize = 4;

/// A text could not be taken apart.
pub(super) struct Malformed {
    /// Which document, from 1.
    pub(super) document: usize,
    pub(super) line: Option<u64>,
    pub(super) problem: String,
    pub(super) remedy: &'static str,
}

/// The stack that a text is taken apart on, in bytes. Each level of nesting takes some of it, most
/// of all in unoptimised programs, and the caller's own may be small.
const STACK_BYTES: usize = 32 << 20;

/// The documents of a text, each a tree or the reason why it is none. Empty ones are left out.
pub(super) fn documents(text: &str) -> Vec<Result<Node, Malformed>> {
    let taken = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        let thread = thread.spawn_scoped(scope, || take_apart(text));
        thread.map(|thread| thread.join())
    });
    match taken {
        Ok(Ok(documents)) => documents,
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(error) => vec![Err(Malformed {
            document: 1,
            line: None,
            problem: format!("the system gave no thread to read it on: {error}"),
            remedy: "let fewer threads run, or allow more, and load it again",
        })],
    }
}

fn take_apart(text: &str) -> Vec<Result<Node, Malformed>> {
    if text.len() > TEXT_BYTES_MAX {
        let problem = format!(
            "the text has {} bytes, at most {TEXT_BYTES_MAX}",
            text.len()
        );
        let remedy = "load it in parts, and keep large data out of manifests";
        return vec![Err(Malformed {
            document: 1,
            line: None,
            problem,
            remedy,
        })];
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let documents = if json::begins(text) {
        json_or_yaml(text)
    } else {
        yaml(text)
    };
    if documents.len() > DOCUMENTS_MAX {
        let problem = format!("there are more than {DOCUMENTS_MAX} documents");
        let remedy = "load them in parts";
        return vec![Err(Malformed {
            document: DOCUMENTS_MAX,
            line: None,
            problem,
            remedy,
        })];
    }
    documents
}

/// What is wrong with bytes that are no text from `offset` on.
pub(super) fn not_utf8(bytes: &[u8], offset: usize) -> Malformed {
    let before = &bytes[..offset.min(bytes.len())];
    let separators = before.split(|byte| *byte == b'\n').skip(1);
    let separators = separators.filter(|line| line.starts_with(b"---")).count();
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let remedy = if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        "it looks like UTF-16; save it as UTF-8"
    } else if bytes.starts_with(&[0x1f, 0x8b]) {
        "it looks compressed; unpack it first, for instance with gunzip"
    } else {
        "save it as UTF-8; bytes that are no text belong into binaryData or data of a Secret, in \
         base64"
    };
    let found = bytes.get(offset).copied().unwrap_or_default();
    Malformed {
        document: separators + 1,
        line: u64::try_from(line).ok(),
        problem: format!("byte {offset}, 0x{found:02x}, is not UTF-8"),
        remedy,
    }
}

/// Takes a text that begins as JSON for JSON, unless YAML can be made of it and JSON cannot: YAML
/// has a syntax that looks like JSON too, with comments, bare words and lines of `---`.
fn json_or_yaml(text: &str) -> Vec<Result<Node, Malformed>> {
    let broken = |documents: &[Result<Node, Malformed>]| {
        let mut lines = documents.iter().filter_map(|one| one.as_ref().err());
        lines.next_back().map(|malformed| malformed.line)
    };
    let json = json::documents(text);
    let Some(json_to) = broken(&json) else {
        return json;
    };
    let yaml = yaml(text);
    match broken(&yaml) {
        // Whoever came further knew better what it was reading.
        Some(yaml_to) if yaml_to <= json_to => json,
        _ => yaml,
    }
}

/// After a document that cannot be read it goes on with the next, a bounded number of times.
fn yaml(text: &str) -> Vec<Result<Node, Malformed>> {
    let mut documents = Vec::new();
    let mut from = Some((1, text));
    for _ in 0..PROBLEMS_MAX {
        let Some((line, rest)) = from else { break };
        // Empty lines for those before: what is told of lines and documents holds for the text.
        let mut reader = io::repeat(b'\n').take(line - 1).chain(rest.as_bytes());
        let read = serde_saphyr::read_with_options::<_, Node>(&mut reader, options());
        for document in read.take(DOCUMENTS_MAX + 1 - documents.len()) {
            let number = documents.len() + 1;
            documents.push(match document {
                Ok(node) if node.count() > VALUES_MAX => Err(Malformed {
                    document: number,
                    line: (node.line > 0).then_some(node.line),
                    problem: wording::too_many(),
                    remedy: "load it in parts",
                }),
                Ok(node) => Ok(node),
                Err(error) => Err(malformed(number, &error, text)),
            });
        }
        from = match documents.last() {
            Some(Err(Malformed { line: Some(at), .. })) => {
                document_after(text, *at).filter(|(next, _)| *next > line)
            }
            _ => None,
        };
    }
    documents
}

/// The next document that begins after a line: its first line, and all from there on.
fn document_after(text: &str, line: u64) -> Option<(u64, &str)> {
    let mut from = 0;
    for (number, written) in (1..).zip(text.split_inclusive('\n')) {
        let begins = written.strip_prefix("---");
        if number > line
            && begins.is_some_and(|after| !after.starts_with(|c: char| !c.is_whitespace()))
        {
            return Some((number, &text[from..]));
        }
        from += written.len();
    }
    None
}

fn malformed(document: usize, error: &serde_saphyr::Error, text: &str) -> Malformed {
    let error = error.without_snippet();
    let line = error
        .location()
        .map(|location| location.line())
        .filter(|line| *line > 0);
    let written = line
        .and_then(|line| text.lines().nth(usize::try_from(line - 1).ok()?))
        .unwrap_or_default();
    let (problem, remedy) = wording::malformed(error, written);
    Malformed {
        document,
        line,
        problem,
        remedy,
    }
}

/// YAML 1.2 with the readings of Kubernetes' own tools where they are stricter: `no` and `0755` are
/// texts. Aliases cannot be made to swell.
fn options() -> Options {
    let budget = serde_saphyr::budget! {
        max_reader_input_bytes: Some(TEXT_BYTES_MAX),
        max_depth: DEPTH_MAX,
        flow_nesting_limit: DEPTH_MAX,
        // Keys count too.
        max_nodes: VALUES_MAX * 2,
        max_events: VALUES_MAX * 4,
        max_documents: DOCUMENTS_MAX + 1,
        max_total_scalar_bytes: TEXT_BYTES_MAX,
        max_buffered_comment_events: 100_000,
    };
    serde_saphyr::options! {
        budget: budget,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        with_snippet: false,
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: ALIASED_VALUES_MAX,
            max_replay_stack_depth: ALIAS_DEPTH_MAX,
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn count(text: &str) -> (usize, usize) {
        let all = documents(text);
        let good = all.iter().filter(|document| document.is_ok()).count();
        (good, all.len() - good)
    }

    fn problem(text: &str) -> Malformed {
        documents(text).into_iter().find_map(Result::err).unwrap()
    }

    #[test]
    fn documents_of_all_shapes() {
        for (text, good) in [
            ("", 0),
            ("---\n", 0),
            ("# only a comment\n", 0),
            ("a: 1\n---\n# c\n---\nb: 2\n...\n", 2),
            ("{\"a\": 1}", 1),
            ("{\"a\": 1} {\"b\": \"\\ud83d\\ude00\"}\n", 2),
            ("[{\"a\": 1}, {\"b\": 2}]", 1),
            ("{a: 1} # YAML after all", 1),
            ("\u{feff}a: 1", 1),
        ] {
            assert_eq!(count(text), (good, 0), "{text:?}");
        }
    }

    #[test]
    fn a_broken_document_is_named_by_number_and_line() {
        let found = problem("a: 1\n---\nb: [1, 2\nc: 3\n");
        assert_eq!(found.document, 2);
        assert!(
            found.line.is_some_and(|line| (3..=5).contains(&line)),
            "{:?}",
            found.line
        );
        let twice = problem("a: 1\na: 2\n");
        assert!(twice.problem.contains('a'), "{}", twice.problem);
    }

    #[test]
    fn bombs_are_refused() {
        let mut bomb = String::from("a: &a [x, x, x, x, x, x, x, x, x]\n");
        for (n, letter) in "bcdefghi".chars().enumerate() {
            let below = char::from(b'a' + u8::try_from(n).unwrap());
            let alias = format!("*{below}");
            bomb += &format!("{letter}: &{letter} [{}]\n", vec![alias; 9].join(","));
        }
        let deep = "[".repeat(10_000);
        let deep_json = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let long = "a: b\n".repeat(2_000_001);
        for text in [
            bomb,
            deep,
            deep_json,
            long,
            "---\na: 1\n".repeat(DOCUMENTS_MAX + 1),
        ] {
            assert!(count(&text).1 > 0, "{}", &text[..40]);
        }
    }
}
