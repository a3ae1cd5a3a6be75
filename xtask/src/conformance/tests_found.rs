//! Finds the tests that are written in the sources.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use super::ids::Id;
use crate::sources::{self, Spanned};

/// What marks the title of a node test where a Rust test would be named.
const SCRIPT: &str = "e2e:";

/// Every test of the repository by name; node tests as `e2e:<title>`.
#[derive(Debug, Default)]
pub(super) struct TestsFound {
    names: BTreeSet<String>,
}

impl TestsFound {
    /// Looks through all Rust files, and the scripts in `e2e/`.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let mut found = Self::default();
        for path in sources::files(root, "rs")? {
            found.add_rust(&sources::read(&path)?);
        }
        for ending in ["js", "mjs"] {
            for path in sources::files(&root.join("e2e"), ending)? {
                found.add_script(&sources::read(&path)?);
            }
        }
        Ok(found)
    }

    /// Returns whether there is such a test.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Returns the tests whose names start with a scenario id.
    pub(super) fn with_ids(&self) -> impl Iterator<Item = (&str, Id)> {
        self.names.iter().filter_map(|name| {
            let id = match name.strip_prefix(SCRIPT) {
                Some(title) => Id::of_title(title),
                None => Id::of_function(name),
            };
            Some((name.as_str(), id?))
        })
    }

    /// Adds each function under an attribute like `#[test]` or `#[tokio::test]`.
    pub(super) fn add_rust(&mut self, text: &str) {
        let tokens = sources::tokens(text);
        let mut is_test = false;
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            if let Some(end) = sources::attribute_end(&tokens, at) {
                is_test |= marks_test(&tokens[at..end]);
                at = end;
                continue;
            }
            if token.ident() == Some("fn") {
                let name = tokens.get(at + 1).and_then(|token| token.ident());
                if let Some(name) = name.filter(|_| is_test) {
                    self.names.insert(name.to_owned());
                }
            }
            is_test &= matches!(token.ident(), Some("pub" | "async"));
            at += 1;
        }
    }

    /// Adds the title of each `test("…"` or `it("…"`.
    pub(super) fn add_script(&mut self, text: &str) {
        for opening in ["test(", "it("] {
            for (at, _) in text.match_indices(opening) {
                let is_word_end = text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
                let title = literal(text[at + opening.len()..].trim_start());
                if let Some(title) = title.filter(|_| !is_word_end) {
                    self.names.insert(format!("{SCRIPT}{title}"));
                }
            }
        }
    }
}

/// Returns whether an attribute is `#[test]` or ends in it, as `#[tokio::test(…)]` does, and as a
/// macro's `#[$test]` stands for.
fn marks_test(attribute: &[Spanned<'_>]) -> bool {
    let path_end = attribute
        .iter()
        .skip(2)
        .position(|token| token.ident().is_none() && !token.is(':') && !token.is('$'));
    let path = &attribute[2..path_end.map_or(attribute.len(), |end| end + 2)];
    path.last().and_then(|token| token.ident()) == Some("test")
}

/// Returns the text of the string literal that starts here.
fn literal(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|c| "'\"`".contains(*c))?;
    let mut title = String::new();
    let mut rest = text[1..].chars();
    loop {
        match rest.next()? {
            '\\' => title.push(rest.next()?),
            c if c == quote => return Some(title),
            c => title.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_under_a_test_attribute_are_tests() {
        let mut found = TestsFound::default();
        found.add_rust(
            "#[test] fn a() {} #[tokio::test(flavor = \"multi_thread\")] async fn b() {}\n\
             #[test]\n#[allow(x)]\npub fn c() {}\n#[cfg(test)] fn d() {} fn e() {}\n\
             // #[test] fn f() {}\nproptest! { #[test] fn g(x in 0..3) {} }\n\
             macro_rules! suite { (#[$test:meta]) => { #[$test] async fn h() {} } }",
        );
        let names: Vec<_> = found.names.iter().map(String::as_str).collect();
        assert_eq!(names, ["a", "b", "c", "g", "h"]);
    }

    #[test]
    fn titles_of_node_tests_are_read_in_every_quote() {
        let mut found = TestsFound::default();
        found.add_script(
            "test('JS-1 it\\'s up', () => {}); await t.test(\"two\", f); it(`three`, f);\n\
             latest('four'); test(\n  'five',",
        );
        let names: Vec<_> = found.names.iter().map(String::as_str).collect();
        assert_eq!(
            names,
            ["e2e:JS-1 it's up", "e2e:five", "e2e:three", "e2e:two"]
        );
        let ids: Vec<_> = found.with_ids().map(|(_, id)| id.to_string()).collect();
        assert_eq!(ids, ["JS-1"]);
    }
}
