//! Checks that every behaviour we promise has a test, and every such test a row that says what for.
//!
//! The rows are in `conformance/*.toml`; the ids of the reference's own scenarios are known here,
//! so that none can be forgotten. The tests are looked for in the sources, not run.

mod ids;
mod rows;
mod tests_found;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};

use crate::shell;
use ids::Id;
use rows::Row;
use tests_found::TestsFound;

/// Prints every scenario id with its tests and fails if one is missing, unknown or left over.
pub(crate) fn run() -> Result<()> {
    let rows = rows::read(&shell::root().join("conformance"))?;
    for row in sorted(&rows) {
        let proof = match &row.why_not {
            Some(reason) if row.tests.is_empty() => format!("none: {reason}"),
            Some(_) | None => row.tests.join(", "),
        };
        println!("{:8} {proof}", row.id);
    }
    check()
}

/// Checks the same without printing what is right.
pub(crate) fn check() -> Result<()> {
    let root = shell::root();
    let rows = rows::read(&root.join("conformance"))?;
    let found = TestsFound::read(&root)?;
    let problems = problems(&ids::reference(), &rows, &found);
    for problem in &problems {
        println!("{problem}");
    }
    if !problems.is_empty() {
        bail!("{} things are wrong with the scenarios", problems.len());
    }
    let n_tested = rows.iter().filter(|row| !row.tests.is_empty()).count();
    println!(
        "conformance: {} scenarios, {n_tested} with tests, {} that say why not",
        rows.len(),
        rows.len() - n_tested
    );
    Ok(())
}

fn sorted(rows: &[Row]) -> Vec<&Row> {
    let mut sorted: Vec<&Row> = rows.iter().collect();
    sorted.sort_by_key(|row| Id::parse(&row.id));
    sorted
}

/// Returns all that is wrong, in the order of the ids.
fn problems(reference: &BTreeSet<Id>, rows: &[Row], found: &TestsFound) -> Vec<String> {
    let mut problems = Vec::new();
    let mut by_id: BTreeMap<Id, &Row> = BTreeMap::new();
    for row in rows {
        match Id::parse(&row.id) {
            Some(id) => {
                if by_id.insert(id, row).is_some() {
                    problems.push(format!("{id}: has two rows"));
                }
            }
            None => problems.push(format!("{}: is no scenario id (like P-12)", row.id)),
        }
    }
    for (id, row) in &by_id {
        let complaints = row_problems(*id, row, reference, found);
        problems.extend(complaints.into_iter().map(|what| format!("{id}: {what}")));
    }
    let missing = reference.iter().filter(|id| !by_id.contains_key(id));
    problems.extend(missing.map(|id| format!("{id}: has no row")));
    for (name, id) in found.with_ids() {
        let listed = by_id
            .get(&id)
            .is_some_and(|row| row.tests.iter().any(|test| test == name));
        if !listed {
            problems.push(format!("{id}: its row does not list the test `{name}`"));
        }
    }
    problems
}

fn row_problems(id: Id, row: &Row, reference: &BTreeSet<Id>, found: &TestsFound) -> Vec<String> {
    let mut problems = Vec::new();
    let source = id.source();
    if row.source != source {
        problems.push(format!("its source must be \"{source}\""));
    }
    if !id.is_ours() && !reference.contains(&id) {
        problems.push("the reference has no such scenario".to_owned());
    }
    if row.what.trim().is_empty() {
        problems.push("does not say what happens".to_owned());
    }
    let says_why = row
        .why_not
        .as_ref()
        .is_some_and(|why| !why.trim().is_empty());
    if row.tests.is_empty() != says_why {
        problems.push("needs either tests or a why_not".to_owned());
    }
    for test in row.tests.iter().filter(|test| !found.contains(test)) {
        problems.push(format!("the test `{test}` does not exist"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, tests: &[&str]) -> Row {
        Row {
            id: id.to_owned(),
            what: "something happens".to_owned(),
            tests: tests.iter().map(|test| (*test).to_owned()).collect(),
            why_not: None,
            source: "phoenix".to_owned(),
        }
    }

    fn check(rows: &[Row], rust: &str) -> Vec<String> {
        let reference = [Id::parse("P-1"), Id::parse("P-2")].into_iter().flatten();
        let mut found = TestsFound::default();
        found.add_rust(rust);
        found.add_script("test('JS-1 connects', () => {});");
        problems(&reference.collect(), rows, &found)
    }

    const RUST: &str = "#[test] fn p_01_a() {} #[tokio::test] async fn p_02_b() {}";

    fn good() -> Vec<Row> {
        let mut script = row("TBL-1", &["e2e:JS-1 connects"]);
        script.source = "herenow".to_owned();
        let mut js = row("JS-1", &["e2e:JS-1 connects"]);
        js.source = "phoenix".to_owned();
        vec![row("P-1", &["p_01_a"]), row("P-2", &["p_02_b"]), script]
    }

    #[test]
    fn rows_and_tests_that_match_pass_but_for_the_row_that_is_missing() {
        let expected = ["JS-1: its row does not list the test `e2e:JS-1 connects`"];
        assert_eq!(check(&good(), RUST), expected);
    }

    fn check_rest(rows: &[Row], rust: &str) -> Vec<String> {
        let mut problems = check(rows, rust);
        problems.retain(|problem| !problem.starts_with("JS-1"));
        problems
    }

    #[test]
    fn a_missing_row_a_double_row_and_an_unknown_id_are_found() {
        let mut rows = good();
        rows[1] = row("P-1", &["p_01_a"]);
        rows.push(row("P-99", &["p_01_a"]));
        rows.push(row("P-01", &["p_01_a"]));
        let expected = [
            "P-1: has two rows",
            "P-01: is no scenario id (like P-12)",
            "P-99: the reference has no such scenario",
            "P-2: has no row",
            "P-2: its row does not list the test `p_02_b`",
        ];
        assert_eq!(check_rest(&rows, RUST), expected);
    }

    #[test]
    fn a_row_without_a_test_must_say_why() {
        let mut rows = good();
        rows[0].tests.clear();
        let rust = "#[test] fn p_02_b() {}";
        assert_eq!(
            check_rest(&rows, rust),
            ["P-1: needs either tests or a why_not"]
        );
        rows[0].why_not = Some("Elixir only".to_owned());
        assert_eq!(check_rest(&rows, rust), Vec::<String>::new());
        rows[0].tests.push("p_02_b".to_owned());
        assert_eq!(
            check_rest(&rows, rust),
            ["P-1: needs either tests or a why_not"]
        );
    }

    #[test]
    fn a_test_that_is_gone_is_found() {
        let expected = ["P-1: the test `p_01_a` does not exist"];
        assert_eq!(
            check_rest(&good(), "fn p_01_a() {} #[test] fn p_02_b() {}"),
            expected
        );
    }

    #[test]
    fn a_test_that_no_row_lists_is_found() {
        let rust = format!("{RUST} #[test] fn p_2_c() {{}} #[test] fn pub_7_d() {{}}");
        let expected = [
            "P-2: its row does not list the test `p_2_c`",
            "PUB-7: its row does not list the test `pub_7_d`",
        ];
        assert_eq!(check_rest(&good(), &rust), expected);
    }

    #[test]
    fn the_source_must_fit_the_id() {
        let mut rows = good();
        rows[0].source = "herenow".to_owned();
        rows[2].source = "phoenix".to_owned();
        let expected = [
            "P-1: its source must be \"phoenix\"",
            "TBL-1: its source must be \"herenow\"",
        ];
        assert_eq!(check_rest(&rows, RUST), expected);
    }
}
