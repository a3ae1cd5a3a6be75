//! Checks which crates each crate depends on: the floor plan of `ARCHITECTURE.md`.
//!
//! Cargo already refuses circles. This refuses what Cargo would allow: a dependency that skips a
//! floor, goes sideways, or brings in what a crate promises to do without.

use std::collections::{BTreeSet, HashMap, HashSet};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::shell;

/// What one of our crates may and must not depend on. Dependencies of tests are not judged.
struct Rule {
    name: &'static str,
    /// Crates of this repository that it may name.
    may: &'static [&'static str],
    /// Crates from elsewhere that it must not reach, not even through others.
    never: &'static [&'static [&'static str]],
}

const ASYNC: &[&str] = &[
    "tokio",
    "futures-util",
    "futures-core",
    "async-trait",
    "mio",
    "socket2",
];
const JSON: &[&str] = &["serde_json"];
const WEB: &[&str] = &["axum", "hyper", "tungstenite", "reqwest"];
const BROKERS: &[&str] = &["zenoh", "async-nats", "redis", "fred"];
const SQL: &[&str] = &["sqlx"];

const RULES: &[Rule] = &[
    Rule {
        name: "herenow-core",
        may: &[],
        never: &[ASYNC, JSON, WEB, BROKERS],
    },
    Rule {
        name: "herenow-protocol",
        may: &[],
        never: &[ASYNC, WEB, BROKERS],
    },
    Rule {
        name: "herenow-pubsub",
        may: &[],
        never: &[WEB, BROKERS],
    },
    Rule {
        name: "herenow-nats",
        may: &["herenow-pubsub"],
        never: &[WEB],
    },
    Rule {
        name: "herenow-redis",
        may: &["herenow-pubsub"],
        never: &[WEB],
    },
    Rule {
        name: "herenow-presence",
        may: &["herenow-core", "herenow-protocol", "herenow-pubsub"],
        never: &[WEB, BROKERS, SQL],
    },
    Rule {
        name: "herenow-sql",
        may: &[],
        never: &[WEB, BROKERS],
    },
    Rule {
        name: "herenow-channels",
        may: &["herenow-protocol", "herenow-pubsub", "herenow-presence"],
        never: &[BROKERS],
    },
    Rule {
        name: "herenow-client",
        may: &["herenow-protocol"],
        never: &[BROKERS, &["axum"]],
    },
    Rule {
        name: "herenow",
        may: &[
            "herenow-channels",
            "herenow-client",
            "herenow-presence",
            "herenow-protocol",
            "herenow-pubsub",
        ],
        never: &[],
    },
    Rule {
        name: "herenow-server",
        may: &[
            "herenow-channels",
            "herenow-client",
            "herenow-core",
            "herenow-nats",
            "herenow-presence",
            "herenow-protocol",
            "herenow-pubsub",
            "herenow-redis",
            "herenow-sql",
            "herenow-zenoh",
        ],
        never: &[],
    },
    Rule {
        name: "herenow-zenoh",
        may: &["herenow-pubsub"],
        never: &[WEB],
    },
    // Nobody may name it, so it stays what only tests depend on.
    Rule {
        name: "herenow-sim",
        may: &["herenow-core", "herenow-protocol", "herenow-pubsub"],
        never: &[WEB, BROKERS],
    },
];

/// The facade holds re-exports only, so it may name nothing but our own crates.
const FACADE: &str = "herenow";

/// Checks every crate of the workspace and prints each dependency that the plan forbids.
pub(crate) fn run() -> Result<()> {
    let arguments = [
        "metadata",
        "--format-version",
        "1",
        "--all-features",
        "--locked",
    ];
    let text = shell::output(&mut shell::cargo(&arguments))?;
    let metadata: Metadata = serde_json::from_str(&text).context("cannot read cargo metadata")?;
    let problems = Graph::new(&metadata)?.problems(RULES);
    for problem in &problems {
        println!("{problem}");
    }
    if !problems.is_empty() {
        bail!("{} dependencies are not in the floor plan", problems.len());
    }
    println!("layers: every dependency is in the floor plan");
    Ok(())
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    resolve: Option<Resolve>,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    kind: Option<String>,
}

/// Who depends on whom, by name and, where there are several, version; dependencies of tests left
/// out.
struct Graph {
    members: BTreeSet<String>,
    edges: HashMap<String, BTreeSet<String>>,
}

impl Graph {
    fn new(metadata: &Metadata) -> Result<Self> {
        let resolve = metadata.resolve.as_ref().context("no resolved graph")?;
        let mut n_versions: HashMap<&str, usize> = HashMap::new();
        for package in &metadata.packages {
            *n_versions.entry(&package.name).or_default() += 1;
        }
        // Two versions of a crate have dependencies of their own, and only one may be reached.
        let names: HashMap<&str, String> = metadata
            .packages
            .iter()
            .map(|package| {
                let name = match n_versions[package.name.as_str()] {
                    1 => package.name.clone(),
                    _ => format!("{}@{}", package.name, package.version),
                };
                (package.id.as_str(), name)
            })
            .collect();
        let name = |id: &str| names.get(id).cloned().unwrap_or_default();
        let mut edges: HashMap<String, BTreeSet<String>> = HashMap::new();
        for node in &resolve.nodes {
            let targets = node.deps.iter().filter(|dependency| {
                let mut kinds = dependency.dep_kinds.iter();
                kinds.any(|kind| kind.kind.as_deref() != Some("dev"))
            });
            let known = edges.entry(name(&node.id)).or_default();
            known.extend(targets.map(|dependency| name(&dependency.pkg)));
        }
        let members = metadata.workspace_members.iter().map(|id| name(id));
        Ok(Self {
            members: members.collect(),
            edges,
        })
    }

    fn problems(&self, rules: &[Rule]) -> Vec<String> {
        let mut problems = Vec::new();
        for member in self
            .members
            .iter()
            .filter(|name| name.starts_with("herenow"))
        {
            match rules.iter().find(|rule| rule.name == member) {
                Some(rule) => self.check(rule, &mut problems),
                None => problems.push(format!("{member} is not in the floor plan: give it a row")),
            }
        }
        problems
    }

    fn check(&self, rule: &Rule, problems: &mut Vec<String>) {
        let name = rule.name;
        for target in self.edges.get(name).into_iter().flatten() {
            let is_ours = self.members.contains(target);
            if is_ours && !rule.may.contains(&target.as_str()) {
                problems.push(format!("{name} must not depend on {target}"));
            }
            if !is_ours && name == FACADE {
                problems.push(format!(
                    "{name} holds re-exports only, but depends on {target}"
                ));
            }
        }
        for never in rule.never.iter().copied().flatten() {
            if let Some(path) = self.path(name, never) {
                problems.push(format!("{name} must not reach {never}, but does: {path}"));
            }
        }
    }

    /// Returns how one crate reaches another, if it does.
    fn path(&self, from: &str, to: &str) -> Option<String> {
        let mut seen = HashSet::from([from]);
        let mut paths = vec![vec![from]];
        while let Some(path) = paths.pop() {
            let last = path.last()?;
            if last.split('@').next() == Some(to) {
                return Some(path.join(" → "));
            }
            for next in self.edges.get(*last).into_iter().flatten() {
                if seen.insert(next) {
                    let mut longer = path.clone();
                    longer.push(next);
                    paths.push(longer);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(members: &[&str], edges: &[(&str, &[&str])]) -> Graph {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Graph {
            members: owned(members),
            edges: edges
                .iter()
                .map(|(from, to)| ((*from).to_owned(), owned(to)))
                .collect(),
        }
    }

    const CORE: Rule = Rule {
        name: "herenow-core",
        may: &[],
        never: &[ASYNC],
    };

    #[test]
    fn a_dependency_that_is_in_the_plan_passes() {
        let graph = graph(&["herenow-core"], &[("herenow-core", &["bytes"])]);
        assert_eq!(graph.problems(&[CORE]), Vec::<String>::new());
    }

    #[test]
    fn a_forbidden_crate_is_found_through_others() {
        let edges: &[(&str, &[&str])] =
            &[("herenow-core", &["a"]), ("a", &["b"]), ("b", &["tokio"])];
        let problems = graph(&["herenow-core"], edges).problems(&[CORE]);
        assert_eq!(
            problems,
            ["herenow-core must not reach tokio, but does: herenow-core → a → b → tokio"]
        );
    }

    #[test]
    fn another_version_of_a_dependency_is_another_crate() {
        let edges: &[(&str, &[&str])] = &[
            ("herenow-core", &["a@2.0.0"]),
            ("a@1.0.0", &["tokio@1.0.0"]),
            ("a@2.0.0", &["b"]),
        ];
        let graph = graph(&["herenow-core"], edges);
        assert_eq!(graph.problems(&[CORE]), Vec::<String>::new());
        let edges: &[(&str, &[&str])] = &[("herenow-core", &["tokio@1.0.0"])];
        let graph = self::graph(&["herenow-core"], edges);
        assert_eq!(graph.problems(&[CORE]).len(), 1);
    }

    #[test]
    fn a_crate_of_ours_that_is_not_named_is_refused() {
        let members = ["herenow-core", "herenow-pubsub"];
        let problems = graph(&members, &[("herenow-core", &["herenow-pubsub"])]).problems(&[CORE]);
        assert_eq!(
            problems,
            [
                "herenow-core must not depend on herenow-pubsub",
                "herenow-pubsub is not in the floor plan: give it a row"
            ]
        );
    }

    #[test]
    fn dependencies_of_tests_are_not_judged() {
        let text = r#"{"packages":[{"id":"1","name":"herenow-core","version":"0.1.0"},{"id":"2","name":"tokio","version":"1.0.0"}],
            "workspace_members":["1"],"resolve":{"nodes":[{"id":"1","deps":[
            {"pkg":"2","dep_kinds":[{"kind":"dev"}]}]},{"id":"2","deps":[]}]}}"#;
        let metadata: Metadata = serde_json::from_str(text).unwrap();
        let graph = Graph::new(&metadata).unwrap();
        assert_eq!(graph.problems(&[CORE]), Vec::<String>::new());
    }
}
