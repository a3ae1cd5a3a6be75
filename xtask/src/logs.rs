//! Checks that nothing is logged aloud that says who somebody is, or what only they may know.
//!
//! Keys, users, tokens, metas and payloads are for `debug` and `trace`. What is looked at are the
//! names of fields of `info!`, `warn!` and `error!`: values by other names are for the tests to
//! find.

use anyhow::{Result, bail};

use crate::shell;
use crate::sources::{self, Spanned};

/// Macros whose lines are read by operators.
const ALOUD: [&str; 3] = ["info", "warn", "error"];
/// Names of fields that are none for them.
const FORBIDDEN: [&str; 14] = [
    "key", "keys", "user", "users", "user_id", "sub", "token", "meta", "metas", "payload",
    "params", "secret", "claims", "password",
];
/// One that is none for them as a shorthand: a socket's own name has the user in it.
const SOCKET: &str = "socket";

/// A field that must not be logged aloud, and its line.
#[derive(Debug, PartialEq, Eq)]
struct Found<'a> {
    line: usize,
    field: &'a str,
}

/// Looks at every crate's sources, test code inside them not counted.
pub(crate) fn run() -> Result<()> {
    let root = shell::root();
    let (mut n_lines, mut n_found) = (0, 0);
    for path in sources::files(&root.join("crates"), "rs")? {
        let shown = path.strip_prefix(&root).unwrap_or(&path);
        if !shown.iter().any(|part| part == "src") {
            continue;
        }
        let text = sources::read(&path)?;
        let tokens = sources::tokens(&text);
        let (n, found) = look(&tokens);
        n_lines += n;
        n_found += found.len();
        for Found { line, field } in found {
            println!("{}:{line}: `{field}` is for debug! only", shown.display());
        }
    }
    if n_found > 0 {
        bail!("{n_found} fields of log lines say who somebody is");
    }
    println!("logs: none of {n_lines} lines that operators read says who somebody is");
    Ok(())
}

/// Returns how many macros were looked at, and what was found in them.
fn look<'a>(tokens: &[Spanned<'a>]) -> (usize, Vec<Found<'a>>) {
    let skipped = sources::test_ranges(tokens);
    let (mut n_lines, mut found) = (0, Vec::new());
    for (at, token) in tokens.iter().enumerate() {
        let is_aloud = token.ident().is_some_and(|name| ALOUD.contains(&name));
        let is_called = |at: usize| {
            let [bang, open] = [at + 1, at + 2].map(|at| tokens.get(at).copied());
            bang.is_some_and(|bang| bang.is('!')) && open.is_some_and(|open| open.is('('))
        };
        if !is_aloud || !is_called(at) || skipped.iter().any(|range| range.contains(&at)) {
            continue;
        }
        n_lines += 1;
        let end = sources::closing(tokens, at + 2);
        found.extend(fields(&tokens[at + 3..end]));
    }
    (n_lines, found)
}

/// The forbidden ones among the fields that stand between the parentheses.
fn fields<'a>(inside: &[Spanned<'a>]) -> Vec<Found<'a>> {
    let mut found = Vec::new();
    let (mut depth, mut at) = (0_usize, 0);
    let mut begins = true;
    while let Some(token) = inside.get(at) {
        at += 1;
        if begins && (token.is('%') || token.is('?')) {
            continue;
        }
        if let (true, Some(field)) = (begins, token.ident()) {
            let is_short = inside.get(at).is_none_or(|next| next.is(','));
            if FORBIDDEN.contains(&field) || field == SOCKET && is_short {
                let line = token.line;
                found.push(Found { line, field });
            }
        }
        if ['(', '[', '{'].iter().any(|open| token.is(*open)) {
            depth += 1;
        } else if [')', ']', '}'].iter().any(|close| token.is(*close)) {
            depth = depth.saturating_sub(1);
        }
        begins = depth == 0 && token.is(',');
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(usize, String)> {
        let tokens = sources::tokens(text);
        let (_, found) = look(&tokens);
        let owned = |found: Found<'_>| (found.line, found.field.to_owned());
        found.into_iter().map(owned).collect()
    }

    #[test]
    fn fields_that_say_who_somebody_is_are_found_by_their_names() {
        let bad = "fn f() {\n tracing::warn!(topic, %key, \"x\");\n info!(n, token = a(b, c));\n}";
        assert_eq!(found(bad), [(2, "key".to_owned()), (3, "token".to_owned())]);
        assert_eq!(found("error!(socket, \"x\")"), [(1, "socket".to_owned())]);
    }

    #[test]
    fn other_lines_and_levels_are_left_alone() {
        for fine in [
            "debug!(key, token)",
            "warn!(n_keys = keys.len(), \"keys of tokens, key\")",
            "info!(socket = %address, topic = f(key, token))",
            "#[cfg(test)]\nmod tests { fn f() { warn!(key); } }",
            "#[error(\"key\")] struct E { key: u8 }",
            "// warn!(key)",
        ] {
            assert_eq!(found(fine), [], "{fine}");
        }
    }
}
