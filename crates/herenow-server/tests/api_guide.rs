//! docs/api.md, run: each of its commands against a real server, by a real shell and curl.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

#[path = "support/rig.rs"]
mod rig;

use std::process::Command;

use serde_json::Value;

use self::rig::Rig;

const GUIDE: &str = include_str!("../../../docs/api.md");
/// What the guide exports at its beginning.
const EXPORTS: &str = "export HERENOW=";

/// The fenced blocks of a Markdown text, each with its language, in order.
fn blocks(text: &str) -> Vec<(&str, &str)> {
    let mut parts = text.split("\n```").skip(1);
    let mut blocks = Vec::new();
    while let (Some(block), Some(_between)) = (parts.next(), parts.next()) {
        blocks.push(block.split_once('\n').unwrap());
    }
    blocks
}

/// Where two values differ in members or types; a list is compared by its first entry.
fn difference(path: &str, shown: &Value, found: &Value) -> Option<String> {
    match (shown, found) {
        (Value::Object(shown), Value::Object(found)) => {
            if !shown.keys().eq(found.keys()) {
                return Some(format!("{path}: {shown:?} is {found:?}"));
            }
            let mut members = shown.iter();
            members.find_map(|(name, value)| {
                difference(&format!("{path}.{name}"), value, &found[name])
            })
        }
        (Value::Array(shown), Value::Array(found)) => match (shown.first(), found.first()) {
            (Some(one), Some(other)) => difference(&format!("{path}[0]"), one, other),
            (None, None) => None,
            _ => Some(format!("{path}: {shown:?} is {found:?}")),
        },
        _ => {
            let is_same = std::mem::discriminant(shown) == std::mem::discriminant(found);
            (!is_same).then(|| format!("{path}: {shown} is {found}"))
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn srv_670_the_commands_of_the_guide_print_what_it_shows() {
    let keys = "guide:admin:keykeykeykeykeykey";
    let rig = Rig::with(&[("api.keys", keys)]).await;
    let blocks = blocks(GUIDE);
    let exports = blocks
        .iter()
        .find(|(_, code)| code.starts_with(EXPORTS))
        .unwrap()
        .1;
    let exports = exports.replace("127.0.0.1:4000", &rig.address.to_string());
    let mut n_run = 0;
    for pair in blocks.windows(2) {
        let [("sh", command), ("json", shown)] = pair else {
            continue;
        };
        let script = format!("{exports}\n{command}");
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let found: Value = serde_json::from_str(&printed)
            .unwrap_or_else(|error| panic!("{command}\n{error}: {printed:?}"));
        let shown: Value = serde_json::from_str(shown).unwrap();
        assert_eq!(difference("", &shown, &found), None, "{command}\n{printed}");
        n_run += 1;
    }
    let n_commands = GUIDE.matches("curl -s").count();
    assert_eq!(
        n_run, n_commands,
        "each command has what it prints behind it"
    );
    rig.ended().await; // By the guide's last command.
}
