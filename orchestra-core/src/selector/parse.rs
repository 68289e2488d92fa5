//! Label selectors as text, in the form of `kubectl get -l`.

use std::str::FromStr;

use smol_str::SmolStr;

use super::label::{LabelSelector, LabelSelectorRequirement, SelectorOperator};
use crate::kind::Invalid;

/// A text is not a label selector.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{text:?} is not a label selector: {problem} (at byte {at}); \
     write it like app=web,tier!=db,zone in (a,b),!canary"
)]
pub struct ParseSelectorError {
    text: String,
    problem: String,
    at: usize,
}

impl FromStr for LabelSelector {
    type Err = ParseSelectorError;

    /// Reads `key=value` (or `==`), `key!=value`, `key in (a,b)`, `key notin (a,b)`, `key` and
    /// `!key`, separated by commas. The empty text selects everything.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut reader = Reader { text, at: 0 };
        reader.selector().map_err(|problem| ParseSelectorError {
            text: text.chars().take(120).collect(),
            problem,
            at: reader.at,
        })
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn selector(&mut self) -> Result<LabelSelector, String> {
        let mut selector = LabelSelector::default();
        if self.at_end() {
            return Ok(selector);
        }
        loop {
            let requirement = self.requirement()?;
            match (requirement.operator, requirement.values.as_slice()) {
                // A second value for a key is a contradiction to keep, not to overwrite.
                (SelectorOperator::In, [value])
                    if !selector.match_labels.contains_key(&requirement.key) =>
                {
                    selector.match_labels.insert(requirement.key, value.clone());
                }
                _ => selector.match_expressions.push(requirement),
            }
            if self.at_end() {
                break;
            }
            if !self.take(",") {
                return Err("a comma or the end is missing".into());
            }
        }
        let mut found = Invalid::new();
        selector.validate("", &mut found);
        match found.errors.first() {
            Some(error) => Err(format!("{:?}: {}", error.value, error.problem)),
            None => Ok(selector),
        }
    }

    fn requirement(&mut self) -> Result<LabelSelectorRequirement, String> {
        let requirement = |key: &str, operator, values| {
            Ok(LabelSelectorRequirement {
                key: key.into(),
                operator,
                values,
            })
        };
        if self.take("!") {
            return requirement(self.key()?, SelectorOperator::DoesNotExist, Vec::new());
        }
        let key = self.key()?;
        if self.at_end() || self.peek(",") {
            requirement(key, SelectorOperator::Exists, Vec::new())
        } else if self.take("!=") {
            requirement(key, SelectorOperator::NotIn, vec![self.word().into()])
        } else if self.take("==") || self.take("=") {
            requirement(key, SelectorOperator::In, vec![self.word().into()])
        } else if self.peek("<") || self.peek(">") {
            Err("labels of objects are not compared as numbers".into())
        } else {
            let operator = match self.word() {
                "in" => SelectorOperator::In,
                "notin" => SelectorOperator::NotIn,
                _ => {
                    return Err("after a key comes =, ==, !=, in, notin, a comma or the end".into());
                }
            };
            requirement(key, operator, self.values()?)
        }
    }

    fn key(&mut self) -> Result<&'a str, String> {
        let key = self.word();
        if key.is_empty() {
            Err("a key is missing".into())
        } else {
            Ok(key)
        }
    }

    fn values(&mut self) -> Result<Vec<SmolStr>, String> {
        if !self.take("(") {
            return Err("an opening parenthesis is missing".into());
        }
        let mut values = Vec::new();
        loop {
            let value = SmolStr::from(self.word());
            if !values.contains(&value) {
                values.push(value);
            }
            if self.take(")") {
                return Ok(values);
            }
            if !self.take(",") {
                return Err("a comma or a closing parenthesis is missing".into());
            }
        }
    }

    fn skip_spaces(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    fn at_end(&mut self) -> bool {
        self.skip_spaces();
        self.at == self.text.len()
    }

    fn peek(&mut self, token: &str) -> bool {
        self.skip_spaces();
        self.text[self.at..].starts_with(token)
    }

    fn take(&mut self, token: &str) -> bool {
        let there = self.peek(token);
        if there {
            self.at += token.len();
        }
        there
    }

    /// All up to the next space or sign; empty if there is nothing before it.
    fn word(&mut self) -> &'a str {
        self.skip_spaces();
        let rest = &self.text[self.at..];
        let ends = |c: char| c.is_ascii_whitespace() || "=!,()<>".contains(c);
        let word = &rest[..rest.find(ends).unwrap_or(rest.len())];
        self.at += word.len();
        word
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn each_form_is_read_and_written() {
        for (text, written) in [
            ("", ""),
            ("  ", ""),
            ("a=b", "a=b"),
            (" a == b ", "a=b"),
            ("a=", "a="),
            ("a!=b", "a!=b"),
            ("a", "a"),
            ("! a", "!a"),
            ("a in (x,y)", "a in (x,y)"),
            ("a in (x, y,x)", "a in (x,y)"),
            ("a notin (x,y)", "a notin (x,y)"),
            ("a in (x)", "a=x"),
            ("in in (in,notin)", "in in (in,notin)"),
            ("a in ()", "a="),
            ("b=c,a=b,!d", "a=b,b=c,!d"),
            ("a=b,a=c", "a=b,a=c"),
            ("example.com/a=b", "example.com/a=b"),
        ] {
            let selector: LabelSelector = text.parse().unwrap();
            assert_eq!(selector.to_string(), written, "{text}");
            assert_eq!(written.parse(), Ok(selector), "{text}");
        }
    }

    #[test]
    fn refusals_say_what_and_where() {
        for (text, problem) in [
            (",", "a key is missing"),
            ("a,", "a key is missing"),
            ("a,,b", "a key is missing"),
            ("a b", "after a key"),
            ("a in x", "opening parenthesis"),
            ("a in (x", "closing parenthesis"),
            ("a in (x y)", "closing parenthesis"),
            ("a>1", "as numbers"),
            ("a=b c", "a comma or the end"),
            ("a=b=c", "a comma or the end"),
            ("-a=b", "letter or digit"),
            ("a=ä", "character other than"),
        ] {
            let error = text.parse::<LabelSelector>().unwrap_err().to_string();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
