//! The rows of `conformance/*.toml`.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::sources;

/// One behaviour, and what shows it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    /// Such as `P-12`.
    pub(super) id: String,
    /// What happens, in our own words.
    pub(super) what: String,
    /// Names of Rust tests, and titles of node tests as `e2e:<title>`.
    #[serde(default)]
    pub(super) tests: Vec<String>,
    /// Why there is no test.
    pub(super) why_not: Option<String>,
    /// Where the behaviour was laid down: `phoenix`, `supabase` or `herenow`.
    pub(super) source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    scenario: Vec<Row>,
}

/// Reads the rows of every table in the folder.
pub(super) fn read(folder: &Path) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for path in sources::files(folder, "toml")? {
        let table: Table = toml::from_str(&sources::read(&path)?)
            .with_context(|| format!("cannot read {}", path.display()))?;
        rows.extend(table.scenario);
    }
    Ok(rows)
}
