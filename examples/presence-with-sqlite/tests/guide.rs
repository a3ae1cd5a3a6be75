//! docs/guides/axum.md: its code is this example's, all of it, its dependencies are too, with the
//! workspace's versions, and its calls do what it says. Its commands are run by the end-to-end
//! tests.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

use herenow::{Presence, PubSub, WatchEvent};
use presence_with_sqlite::Users;
use serde_json::json;

const GUIDE: &str = include_str!("../../../docs/guides/axum.md");
const MANIFEST: &str = include_str!("../Cargo.toml");
const WORKSPACE: &str = include_str!("../../../Cargo.toml");
const SOURCES: [&str; 2] = [
    include_str!("../src/lib.rs"),
    include_str!("../src/main.rs"),
];
const THIS: &str = include_str!("guide.rs");

/// The blocks of the guide in this language.
fn blocks(language: &str) -> Vec<&'static str> {
    let blocks = GUIDE.split("\n```").skip(1).step_by(2);
    let blocks = blocks.filter_map(|block| block.split_once('\n'));
    let its = blocks.filter(|(its, _)| *its == language);
    its.map(|(_, code)| code).collect()
}

#[test]
fn srv_1162_the_code_of_the_axum_guide_is_that_of_its_example() {
    let mut left = SOURCES.map(str::to_owned);
    for block in blocks("rust") {
        let block = block.trim();
        let source = left.iter_mut().find(|source| source.contains(block));
        let source = source.unwrap_or_else(|| panic!("the example has not:\n{block}"));
        *source = source.replacen(block, "", 1);
    }
    // Whoever copies the page has all of it.
    let is_code = |line: &&str| !line.is_empty() && !line.starts_with("//!");
    let left: Vec<&str> = left.iter().flat_map(|source| source.lines()).collect();
    let left: Vec<&str> = left.into_iter().filter(is_code).collect();
    assert!(left.is_empty(), "the guide has not:\n{}", left.join("\n"));
}

#[test]
fn srv_1162_the_dependencies_of_the_axum_guide_are_those_that_are_tested() {
    let dependencies = |text: &'static str| {
        let (_, section) = text.split_once("[dependencies]\n").unwrap();
        let lines = section.lines().take_while(|line| !line.starts_with('['));
        // It is beside the example, and elsewhere for whoever reads the guide.
        let others = lines.filter(|line| !line.is_empty() && !line.starts_with("herenow"));
        others.collect::<Vec<_>>()
    };
    let [block] = blocks("toml")[..] else {
        panic!("there is one block of dependencies")
    };
    let asked = dependencies(block);
    assert_eq!(asked, dependencies(MANIFEST));
    assert!(block.contains("\nherenow = {"));
    let version = |line: &str| {
        let (name, rest) = line.split_once(" = ")?;
        let (_, version) = rest.split_once("version = \"").or(rest.split_once('"'))?;
        Some((name.to_owned(), version.split('"').next()?.to_owned()))
    };
    for line in asked {
        let (name, wanted) = version(line).unwrap();
        let ours = WORKSPACE
            .lines()
            .filter_map(version)
            .find(|(known, _)| *known == name);
        let (_, ours) = ours.unwrap();
        assert!(
            ours.starts_with(wanted.as_str()),
            "{name}: {wanted}, and {ours} here"
        );
    }
}

#[tokio::test]
async fn srv_1162_the_calls_of_the_axum_guide_do_what_it_says() {
    let users = Users::in_memory(3).await.unwrap();
    let presence = Presence::builder(&PubSub::local()).fetch(users).start();
    let presence = presence.unwrap();
    let _ada = presence.track_on("room:1", "u1", json!({})).await.unwrap();
    let _also = presence.track_on("room:1", "ada", json!({})).await.unwrap();

    let bot = presence.track_on("room:1", "bot", json!({})).await;
    let everybody = json!(presence.list("room:1").await);
    assert_eq!(everybody["u1"]["name"], "User 1");
    assert_eq!(everybody.as_object().unwrap().len(), 3);
    assert_eq!(presence.count("room:1"), 3);
    let ada = json!(presence.get_by_key("room:1", "ada").await);
    assert_eq!(ada["metas"].as_array().unwrap().len(), 1);
    let mut watch = presence.watch("room:1");
    assert!(matches!(watch.next().await, WatchEvent::State(_)));
    drop(bot);
    assert!(matches!(watch.next().await, WatchEvent::Changed(_)));
    assert_eq!(presence.count("room:1"), 2);

    let rows = GUIDE.lines().filter_map(|line| line.strip_prefix("| `"));
    let calls: Vec<&str> = rows
        .filter_map(|row| Some(row.split_once('`')?.0))
        .collect();
    assert_eq!(calls.len(), 5);
    for call in calls {
        assert!(THIS.contains(call), "{call} is not tried");
    }
}
