//! Checks that inside a crate a file imports only from files that stand above it.
//!
//! The order is that of the `mod` lines in `lib.rs` (or in `main.rs` of a crate that is only a
//! program): at once the build order, the import order and the reading order. A file and its
//! children count as one, the front page is excepted, and so is test code. A name that the front
//! page re-exports counts as an import from the module that it comes from.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use anyhow::{Result, bail};

use crate::shell;
use crate::sources::{self, Spanned, Token};

/// Checks every crate, prints each import that goes up, and fails if there is one.
pub(crate) fn run() -> Result<()> {
    let root = shell::root();
    let mut problems = Vec::new();
    for manifest in sources::files(&root, "toml")? {
        if manifest
            .file_name()
            .is_some_and(|name| name == "Cargo.toml")
            && let Some(folder) = manifest.parent()
        {
            problems.extend(check_crate(&root, &folder.join("src"))?);
        }
    }
    for problem in &problems {
        println!("{problem}");
    }
    if !problems.is_empty() {
        bail!("{} imports go up instead of down", problems.len());
    }
    println!("imports: every file imports from above it only");
    Ok(())
}

fn check_crate(root: &Path, src: &Path) -> Result<Vec<String>> {
    let Some(front) = ["lib.rs", "main.rs"]
        .iter()
        .map(|name| src.join(name))
        .find(|path| path.is_file())
    else {
        return Ok(Vec::new());
    };
    let front = Front::read(&sources::read(&front)?);
    let mut problems = Vec::new();
    for path in sources::files(src, "rs")? {
        let modules = module_path(path.strip_prefix(src)?);
        let Some(own) = modules.first() else {
            continue;
        };
        let text = sources::read(&path)?;
        for (line, target) in front.upward(own, modules.len(), &text) {
            let shown = path.strip_prefix(root).unwrap_or(&path).display();
            problems.push(format!(
                "{shown}:{line}: `{own}` imports from `{target}`, which the front page lists below it"
            ));
        }
    }
    Ok(problems)
}

/// Returns the modules that a file below `src` is in: none for the front pages and programs.
fn module_path(path: &Path) -> Vec<String> {
    let mut modules: Vec<String> = path
        .with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if modules.last().is_some_and(|last| last == "mod") {
        modules.pop();
    }
    match modules.first().map(String::as_str) {
        Some("bin") => Vec::new(),
        Some("lib" | "main") if modules.len() == 1 => Vec::new(),
        _ => modules,
    }
}

/// What a crate's front page says about its modules.
#[derive(Debug)]
struct Front {
    /// Modules by name, with their place in the order.
    places: HashMap<String, usize>,
    /// Re-exported names, with the module that they come from.
    origins: HashMap<String, String>,
}

impl Front {
    fn read(text: &str) -> Self {
        let tokens = sources::tokens(text);
        let mut front = Self {
            places: HashMap::new(),
            origins: HashMap::new(),
        };
        for pair in tokens.windows(2) {
            if let (Some("mod"), Some(name)) = (pair[0].ident(), pair[1].ident()) {
                let place = front.places.len();
                front.places.entry(name.to_owned()).or_insert(place);
            }
        }
        for (at, _) in tokens
            .iter()
            .enumerate()
            .filter(|(_, token)| token.ident() == Some("use"))
        {
            front.read_use(&tokens[at + 1..]);
        }
        front
    }

    /// Takes in one `use` line: every name in it comes from the module that it starts with.
    fn read_use(&mut self, tokens: &[Spanned<'_>]) {
        let end = tokens.iter().position(|token| token.is(';'));
        let mut names = tokens[..end.unwrap_or(tokens.len())]
            .iter()
            .filter_map(|token| token.ident())
            .filter(|name| !["self", "crate", "as"].contains(name));
        let Some(module) = names.next().filter(|name| self.places.contains_key(*name)) else {
            return;
        };
        for name in names {
            self.origins.insert(name.to_owned(), module.to_owned());
        }
    }

    /// Returns the line and the module of each import of `text` that goes up.
    fn upward(&self, own: &str, depth: usize, text: &str) -> Vec<(usize, String)> {
        let Some(own_place) = self.places.get(own) else {
            return Vec::new();
        };
        let tokens = sources::tokens(text);
        let mut upward = Vec::new();
        for (line, name) in root_names(&tokens, depth) {
            let module = match self.places.get(name) {
                Some(_) => name,
                None => match self.origins.get(name) {
                    Some(module) => module,
                    None => continue,
                },
            };
            if module != own && self.places.get(module) > Some(own_place) {
                upward.push((line, module.to_owned()));
            }
        }
        upward
    }
}

/// Returns every name that is looked up in the crate's root, outside of test code.
fn root_names<'a>(tokens: &[Spanned<'a>], file_depth: usize) -> Vec<(usize, &'a str)> {
    let skipped = sources::test_ranges(tokens);
    let mut names = Vec::new();
    let mut inline = InlineModules::default();
    let mut at = 0;
    while at < tokens.len() {
        if let Some(range) = covering(&skipped, at) {
            at = range.end;
            continue;
        }
        inline.see(tokens, at);
        let after = match tokens[at].ident() {
            Some("crate") if at == 0 || !tokens[at - 1].is('$') => after_colons(tokens, at + 1),
            Some("super") => after_supers(tokens, at, file_depth + inline.depth()),
            _ => None,
        };
        match after {
            Some(after) => {
                tree_heads(tokens, after, &mut names);
                at = after;
            }
            None => at += 1,
        }
    }
    names
}

fn covering(ranges: &[Range<usize>], at: usize) -> Option<&Range<usize>> {
    ranges.iter().find(|range| range.contains(&at))
}

/// Returns the index after `::`, if it stands at `at`.
fn after_colons(tokens: &[Spanned<'_>], at: usize) -> Option<usize> {
    let colons = tokens.get(at)?.is(':') && tokens.get(at + 1)?.is(':');
    colons.then_some(at + 2)
}

/// Returns the index after `super::super::…` if that many lead to the crate's root.
fn after_supers(tokens: &[Spanned<'_>], at: usize, depth: usize) -> Option<usize> {
    let earlier = at >= 3 && tokens[at - 3].ident() == Some("super") && tokens[at - 1].is(':');
    if earlier {
        return None;
    }
    let mut n_supers = 0;
    let mut after = at;
    while tokens.get(after).and_then(|token| token.ident()) == Some("super") {
        n_supers += 1;
        after = after_colons(tokens, after + 1)?;
    }
    (n_supers == depth).then_some(after)
}

/// Adds the first name of each path in the use tree that starts at `at`.
fn tree_heads<'a>(tokens: &[Spanned<'a>], at: usize, names: &mut Vec<(usize, &'a str)>) {
    if let Some(name) = tokens.get(at).and_then(|token| token.ident()) {
        names.push((tokens[at].line, name));
        return;
    }
    let mut depth = 0_usize;
    let mut is_head = false;
    for spanned in &tokens[at..] {
        match spanned.token {
            Token::Punct('{') => {
                depth += 1;
                is_head = depth == 1;
            }
            Token::Punct('}') => depth = depth.saturating_sub(1),
            Token::Punct(',') => is_head = depth == 1,
            Token::Ident(name) if is_head => {
                names.push((spanned.line, name));
                is_head = false;
            }
            Token::Ident(_) | Token::Punct(_) | Token::Literal => {}
        }
        if depth == 0 {
            return;
        }
    }
}

/// Follows the modules that are written out inside a file.
#[derive(Default)]
struct InlineModules {
    n_open: usize,
    modules: Vec<usize>,
}

impl InlineModules {
    fn see(&mut self, tokens: &[Spanned<'_>], at: usize) {
        if tokens[at].is('{') {
            self.n_open += 1;
            if at >= 2 && tokens[at - 2].ident() == Some("mod") {
                self.modules.push(self.n_open);
            }
        } else if tokens[at].is('}') {
            if self.modules.last() == Some(&self.n_open) {
                self.modules.pop();
            }
            self.n_open = self.n_open.saturating_sub(1);
        }
    }

    fn depth(&self) -> usize {
        self.modules.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRONT: &str = "mod low; pub mod mid; mod high;\n\
        pub use low::{Small, Tiny as Smallest}; pub use self::high::Big;";

    fn upward(own: &str, depth: usize, text: &str) -> Vec<(usize, String)> {
        Front::read(FRONT).upward(own, depth, text)
    }

    #[test]
    fn imports_from_above_and_from_ones_own_children_pass() {
        let text = "use crate::low::Small;\nuse crate::mid::child::Thing;\nuse crate::Smallest;";
        assert_eq!(upward("mid", 1, text), []);
    }

    #[test]
    fn imports_from_below_are_found_with_their_line() {
        let text = "\nuse crate::high::Big;\nuse crate::{low::Small, mid::{high, Thing}};";
        let expected = [(2, "high".to_owned()), (3, "mid".to_owned())];
        assert_eq!(upward("low", 1, text), expected);
    }

    #[test]
    fn paths_in_code_and_names_from_the_front_page_count_too() {
        let text = "fn f() -> crate::Big { crate::mid::f() }";
        let expected = [(1, "high".to_owned()), (1, "mid".to_owned())];
        assert_eq!(upward("low", 1, text), expected);
    }

    #[test]
    fn super_is_followed_to_the_root_and_no_further() {
        let found = [(1, "high".to_owned())];
        assert_eq!(upward("low", 1, "use super::high::Big;"), found);
        assert_eq!(upward("low", 2, "use super::high::Big;"), []);
        assert_eq!(upward("low", 2, "use super::super::high::Big;"), found);
        assert_eq!(upward("low", 1, "mod inner { use super::high; }"), []);
        assert_eq!(
            upward("low", 1, "mod inner { use super::super::high; }"),
            found
        );
    }

    #[test]
    fn test_code_and_macro_definitions_are_excepted() {
        let text = "#[cfg(test)]\nmod tests { use crate::high::Big; }\n\
                    macro_rules! m { () => { $crate::high::f() } }";
        assert_eq!(upward("low", 1, text), []);
    }

    #[test]
    fn files_know_their_modules() {
        let path = |text: &str| module_path(Path::new(text));
        assert_eq!(path("lib.rs"), Vec::<String>::new());
        assert_eq!(path("bin/tool.rs"), Vec::<String>::new());
        assert_eq!(path("a.rs"), ["a"]);
        assert_eq!(path("a/b.rs"), ["a", "b"]);
        assert_eq!(path("a/mod.rs"), ["a"]);
    }
}
