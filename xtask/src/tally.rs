//! Reads how many tests passed, failed and were skipped from what the test runners print.

use std::fmt;
use std::ops::AddAssign;

/// How many tests passed, failed and were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Tally {
    /// Reads the summary line of `cargo nextest run`; `None` if there is none.
    pub(crate) fn from_nextest(text: &str) -> Option<Self> {
        let text = plain(text);
        let summary = text
            .lines()
            .rev()
            .find(|line| line.trim_start().starts_with("Summary [") && line.contains(" run: "))?;
        let (_, counts) = summary.split_once(" run: ")?;
        let mut tally = Self::default();
        for count in without_brackets(counts).split(',') {
            let (number, what) = count.trim().split_once(' ')?;
            let number: u64 = number.parse().ok()?;
            match what.trim() {
                "passed" => tally.passed += number,
                "skipped" => tally.skipped += number,
                // "failed", "timed out", "exec failed", and whatever a later version invents.
                _ => tally.failed += number,
            }
        }
        Some(tally)
    }

    /// Adds up the `test result:` lines of `cargo test`; `None` if there is none.
    pub(crate) fn from_libtest(text: &str) -> Option<Self> {
        let text = plain(text);
        let mut total = None;
        for line in text.lines() {
            let Some(result) = line.trim_start().strip_prefix("test result: ") else {
                continue;
            };
            let count = |what: &str| {
                let before = result.split_once(what)?.0.trim_end();
                before.rsplit([' ', '.']).next()?.parse::<u64>().ok()
            };
            let tally: &mut Self = total.get_or_insert_default();
            tally.passed += count("passed")?;
            tally.failed += count("failed")?;
            tally.skipped += count("ignored")?;
        }
        total
    }

    /// Reads the closing lines of node's test runner, in its `spec` and its `tap` form.
    ///
    /// A test that is marked as to do counts as skipped, a cancelled one as failed.
    pub(crate) fn from_node(text: &str) -> Option<Self> {
        let text = plain(text);
        let mut total: Option<Self> = None;
        for line in text.lines() {
            let line = line.trim();
            let Some(line) = line.strip_prefix("ℹ ").or_else(|| line.strip_prefix("# ")) else {
                continue;
            };
            let Some((what, number)) = line.split_once(' ') else {
                continue;
            };
            let Ok(number) = number.parse::<u64>() else {
                continue;
            };
            match what {
                "pass" => total.get_or_insert_default().passed += number,
                "fail" | "cancelled" => total.get_or_insert_default().failed += number,
                "skipped" | "todo" => total.get_or_insert_default().skipped += number,
                _ => {}
            }
        }
        total
    }

    /// Returns whether something ran and nothing failed or was skipped.
    pub(crate) fn is_clean(self) -> bool {
        self.passed > 0 && self.failed == 0 && self.skipped == 0
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// Drops the escape sequences that colour a line.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        let end = after.find(|c: char| c.is_ascii_alphabetic());
        rest = end.map_or("", |end| &after[end + 1..]);
    }
    plain.push_str(rest);
    plain
}

fn without_brackets(text: &str) -> String {
    let mut depth = 0_usize;
    let mut kept = String::new();
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            c if depth == 0 => kept.push(c),
            _ => {}
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(passed: u64, failed: u64, skipped: u64) -> Tally {
        Tally {
            passed,
            failed,
            skipped,
        }
    }

    #[test]
    fn nextest_summary_is_read_in_colour_too() {
        let text = "  PASS a\n\u{1b}[32;1m     Summary\u{1b}[0m [   0.010s] \u{1b}[1m3\u{1b}[0m tests run: \
                    \u{1b}[1m3\u{1b}[0m \u{1b}[32;1mpassed\u{1b}[0m, \u{1b}[1m0\u{1b}[0m skipped\n";
        assert_eq!(Tally::from_nextest(text), Some(tally(3, 0, 0)));
    }

    #[test]
    fn nextest_failures_of_every_kind_are_failures() {
        let text = "Summary [ 4.2s] 11/12 tests run: 8 passed (1 slow, 1 leaky), 2 failed, 1 timed out, 3 skipped";
        assert_eq!(Tally::from_nextest(text), Some(tally(8, 3, 3)));
        assert_eq!(Tally::from_nextest("error: could not compile"), None);
    }

    #[test]
    fn doctest_results_are_added_up() {
        let text = "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s\n\
                    test result: FAILED. 3 passed; 4 failed; 0 ignored; 0 measured; 0 filtered out\n";
        assert_eq!(Tally::from_libtest(text), Some(tally(5, 4, 1)));
        assert_eq!(Tally::from_libtest("nothing ran"), None);
    }

    #[test]
    fn node_closing_lines_are_read_in_both_forms() {
        let spec =
            "ℹ tests 5\nℹ suites 0\nℹ pass 2\nℹ fail 1\nℹ cancelled 1\nℹ skipped 0\nℹ todo 1\n";
        assert_eq!(Tally::from_node(spec), Some(tally(2, 2, 1)));
        let tap = "# tests 1\n# pass 1\n# fail 0\n# cancelled 0\n# skipped 0\n# todo 0\n# duration_ms 9.3\n";
        assert_eq!(Tally::from_node(tap), Some(tally(1, 0, 0)));
        assert_eq!(Tally::from_node("npm ERR!"), None);
    }

    #[test]
    fn only_a_run_that_ran_something_whole_is_clean() {
        assert!(tally(1, 0, 0).is_clean());
        assert!(!tally(0, 0, 0).is_clean());
        assert!(!tally(1, 1, 0).is_clean());
        assert!(!tally(1, 0, 1).is_clean());
        assert_eq!(tally(1, 2, 3).to_string(), "1 passed, 2 failed, 3 skipped");
    }
}
