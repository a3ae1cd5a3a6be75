//! What is in `ops/`: alarms that ring when they should, and a dashboard of metrics that there are.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::metrics::exposed;
use super::rig::Rig;

fn file(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap()
}

fn promtool(command: &[&str], path: &str) {
    let ran = Command::new("promtool")
        .args(command)
        .arg(file(path))
        .output();
    let ran =
        ran.expect("promtool is in Debian's package prometheus; `cargo xtask test` installs it");
    let said = [ran.stdout, ran.stderr].concat();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&said));
}

/// The metrics of ours that a text names, without the endings that a histogram's series have.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("herenow_"));
    let family = |word: &str| {
        let endings = ["_bucket", "_sum", "_count"];
        let bare = endings.iter().find_map(|ending| word.strip_suffix(ending));
        bare.unwrap_or(word).to_owned()
    };
    ours.map(family).collect()
}

/// The alarms of the rules, by their lines.
fn alarms() -> Vec<String> {
    let rules = read("ops/prometheus/alerts.yml");
    let names = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    names.map(str::to_owned).collect()
}

#[test]
fn srv_860_the_alarms_are_rules_that_ring_when_they_should_and_only_then() {
    promtool(&["check", "rules"], "ops/prometheus/alerts.yml");
    promtool(&["test", "rules"], "ops/prometheus/alerts_test.yml");
}

#[test]
fn srv_1153_each_alarm_rings_in_one_of_its_tests_and_is_silent_in_another() {
    let tests = read("ops/prometheus/alerts_test.yml");
    for alarm in alarms() {
        let named = format!("alertname: {alarm}\n        exp_alerts:\n");
        assert!(tests.contains(&named), "{alarm} never rings");
        let silent = format!(", alertname: {alarm} }}");
        assert!(tests.contains(&silent), "{alarm} always rings");
    }
}

#[tokio::test]
async fn srv_861_alarms_and_dashboard_name_metrics_that_there_are() {
    let rig = Rig::start().await;
    let exposed = exposed(&rig.get("/metrics").await.body);
    for path in [
        "ops/prometheus/alerts.yml",
        "ops/prometheus/alerts_test.yml",
        "ops/grafana/herenow.json",
        "docs/monitoring.md",
    ] {
        let named = named(&read(path));
        let unknown: Vec<_> = named.difference(&exposed).collect();
        assert!(
            !named.is_empty() && unknown.is_empty(),
            "{path}: {unknown:?}"
        );
    }
    rig.stop().await;
}

#[test]
fn srv_862_the_guide_has_a_section_for_each_alarm() {
    let guide = read("docs/monitoring.md");
    let rules = read("ops/prometheus/alerts.yml");
    assert!(alarms().len() > 10);
    for alarm in alarms() {
        assert!(guide.contains(&format!("\n### {alarm}\n")), "{alarm}");
        let runbook = format!("runbook: docs/monitoring.md#{}\n", alarm.to_lowercase());
        assert!(rules.contains(&runbook), "{runbook}");
    }
}

#[test]
fn srv_863_each_panel_of_the_dashboard_has_a_title_a_place_and_a_query() {
    let dashboard: Value = serde_json::from_str(&read("ops/grafana/herenow.json")).unwrap();
    let mut ids = BTreeSet::new();
    let panels = dashboard["panels"].as_array().unwrap();
    for panel in panels {
        assert!(!panel["title"].as_str().unwrap().is_empty());
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let place = &panel["gridPos"];
        assert!(
            place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap() <= 24,
            "{panel}"
        );
        if panel["type"] == "row" {
            continue;
        }
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{panel}");
        for target in targets {
            assert!(
                target["expr"].as_str().unwrap().contains("herenow_"),
                "{target}"
            );
        }
    }
    assert!(panels.len() > 20);
}
