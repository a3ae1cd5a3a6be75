//! Checks that no source file grows past what a reader holds in mind.

use std::path::Path;

use anyhow::{Result, bail};

use crate::shell;
use crate::sources;

/// From here on a file is named, in the hope that someone finds the seam to cut it at.
const WISHED_LINES: usize = 500;
/// The wall: a longer file fails.
const MAX_LINES: usize = 800;

/// Measures every Rust file outside of tests and benches, test code inside them not counted.
pub(crate) fn run() -> Result<()> {
    let root = shell::root();
    let mut n_over = 0;
    for path in sources::files(&root, "rs")? {
        let shown = path.strip_prefix(&root).unwrap_or(&path);
        if is_test(shown) {
            continue;
        }
        let n_lines = lines_of_code(&sources::read(&path)?);
        if n_lines > WISHED_LINES {
            println!("{}: {n_lines} lines without tests", shown.display());
        }
        n_over += usize::from(n_lines > MAX_LINES);
    }
    if n_over > 0 {
        bail!("{n_over} files have more than {MAX_LINES} lines without their tests");
    }
    println!("length: no file has more than {MAX_LINES} lines");
    Ok(())
}

fn is_test(path: &Path) -> bool {
    let in_tests = path
        .iter()
        .any(|part| ["tests", "benches"].iter().any(|folder| part == *folder));
    in_tests || path.file_stem().is_some_and(|stem| stem == "tests")
}

fn lines_of_code(text: &str) -> usize {
    let tokens = sources::tokens(text);
    let n_test_lines: usize = sources::test_ranges(&tokens)
        .into_iter()
        .map(|range| tokens[range.end - 1].line - tokens[range.start].line + 1)
        .sum();
    text.lines().count() - n_test_lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_code_is_not_counted() {
        let text = "fn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n";
        assert_eq!(lines_of_code(text), 2);
        assert_eq!(lines_of_code("// a\n// b\n"), 2);
    }

    #[test]
    fn tests_and_benches_are_known_by_their_place() {
        assert!(is_test(Path::new("crates/a/tests/b.rs")));
        assert!(is_test(Path::new("crates/a/src/b/tests.rs")));
        assert!(!is_test(Path::new("crates/a/src/testing.rs")));
    }
}
