//! `cargo xtask bench cluster`: how fast nodes learn of each other, as one Markdown table.
//!
//! Two programs measure and check, and print a line for each figure: real nodes, for each engine
//! (`herenow-server`), and two nodes in one process with many rows (`herenow-presence`). Both are
//! built like the released server. The table has the figures of all that was measured.

use anyhow::{Result, bail};

use crate::{shell, tools};

/// What a line begins with that has a figure; five fields between bars follow.
const MARK: &str = "figure: ";
const COLUMNS: [&str; 4] = ["zenoh", "NATS", "Redis", "in process"];
/// How long a partition lasts before it heals, in seconds.
const PARTITION: &str = "60";

/// What was done, and how fast it was with each engine.
struct Row {
    what: String,
    phoenix: String,
    target: String,
    figures: [Option<String>; COLUMNS.len()],
}

/// Measures all, or the engines that are named, and prints the table.
pub(crate) fn run(engines: &[String]) -> Result<()> {
    tools::ensure_brokers()?;
    let bench = ["bench", "--locked", "--profile", "release", "--package"];
    let mut server = shell::cargo(&bench);
    server.args(["herenow-server", "--features", "nats,redis"]);
    server.args(["--bench", "cluster", "--"]).args(engines);
    let mut kept = vec![shell::run_and_keep(&mut server)?];
    if engines.is_empty() {
        let mut presence = shell::cargo(&bench);
        presence.args(["herenow-presence", "--bench", "cluster", "--"]);
        presence.args(["--partition", PARTITION]);
        kept.push(shell::run_and_keep(&mut presence)?);
    }
    let lines = kept.iter().flat_map(|kept| kept.text.lines());
    let mut rows = Vec::new();
    for figure in lines.filter_map(|line| line.strip_prefix(MARK)) {
        take_in(&mut rows, figure)?;
    }
    print(&rows);
    if kept.iter().any(|kept| !kept.success) {
        bail!("something was not as it must be, and the table lacks what came after it");
    }
    Ok(())
}

fn take_in(rows: &mut Vec<Row>, figure: &str) -> Result<()> {
    let fields: Vec<&str> = figure.split('|').map(str::trim).collect();
    let [what, phoenix, target, column, measured, verdict] = fields[..] else {
        bail!("a figure has other fields: {figure}");
    };
    let Some(column) = COLUMNS.iter().position(|name| *name == column) else {
        bail!("a figure is of no known engine: {figure}");
    };
    let at = rows.iter().position(|row| row.what == what);
    let at = at.unwrap_or_else(|| {
        rows.push(Row {
            what: what.to_owned(),
            phoenix: phoenix.to_owned(),
            target: target.to_owned(),
            figures: [const { None }; COLUMNS.len()],
        });
        rows.len() - 1
    });
    // What misses its target stands out, as in the other tables.
    let shown = match verdict {
        "pass" => measured.to_owned(),
        _ => format!("**{measured}**"),
    };
    rows[at].figures[column] = Some(shown);
    Ok(())
}

fn print(rows: &[Row]) {
    println!("\n| work | Phoenix | target | {} |", COLUMNS.join(" | "));
    println!("| --- | --- | --- |{}", " --- |".repeat(COLUMNS.len()));
    for row in rows {
        let figures = row.figures.iter().map(|figure| figure.as_deref());
        let figures: Vec<&str> = figures.map(Option::unwrap_or_default).collect();
        let Row {
            what,
            phoenix,
            target,
            ..
        } = row;
        println!(
            "| {what} | {phoenix} | {target} | {} |",
            figures.join(" | ")
        );
    }
    println!("\nIn bold: what misses its target. Every figure is of a run whose state was right.");
}
