//! The shipped Prometheus and Grafana files match the engine's metrics.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use framepress::internals::metrics::{Series, SeriesKind};

use crate::support::{has_program, skip};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/monitoring")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap()
}

/// Every metric name in a text.
fn names_in(text: &str) -> BTreeSet<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    text.match_indices("framepress_")
        .filter(|(at, _)| !text[..*at].ends_with(is_part))
        .map(|(at, _)| text[at..].split(|letter| !is_part(letter)).next().unwrap().to_owned())
        .collect()
}

/// Every metric name in a scrape.
fn known() -> BTreeSet<String> {
    let of_series = |series: Series| match series.kind() {
        SeriesKind::Histogram => {
            ["_bucket", "_sum", "_count"].map(|end| series.name().to_owned() + end).to_vec()
        }
        SeriesKind::Counter | SeriesKind::Gauge => vec![series.name().to_owned()],
    };
    let cameras = framepress::internals::ingest::SERIES
        .into_iter()
        .flat_map(|name| ["", "_bucket", "_sum", "_count"].map(|end| name.to_owned() + end));
    #[cfg(feature = "kafka")]
    let bridge = framepress::internals::bridge::SERIES.map(|series| series.name.to_owned());
    #[cfg(not(feature = "kafka"))]
    let bridge: [String; 0] = [];
    Series::ALL.into_iter().flat_map(of_series).chain(cameras).chain(bridge).collect()
}

#[test]
fn rules_and_dashboard_name_only_what_is_measured() {
    let known = known();
    for file in ["framepress.rules.yml", "framepress.rules.test.yml", "grafana-dashboard.json"] {
        let names = names_in(&read(file));
        let unknown: Vec<_> = names.difference(&known).collect();
        assert!(unknown.is_empty() && names.len() > 10, "{file}: {unknown:?} of {names:?}");
    }
}

#[test]
fn promtool_accepts_the_rules_and_each_fires_when_it_should() {
    if !has_program("promtool") {
        skip("promtool is not installed; on Debian: apt-get install prometheus");
        return;
    }
    for arguments in
        [["check", "rules", "framepress.rules.yml"], ["test", "rules", "framepress.rules.test.yml"]]
    {
        let output =
            Command::new("promtool").args(arguments).current_dir(folder()).output().unwrap();
        let said =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
    }
    // Every alert has a test.
    let tests = read("framepress.rules.test.yml");
    let rules = read("framepress.rules.yml");
    let alerts: Vec<_> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 8);
    for alert in alerts {
        assert!(tests.contains(&format!("alertname=\"{alert}\"")), "{alert} is not tested");
    }
}

#[test]
fn the_dashboard_can_be_imported() {
    let dashboard: serde_json::Value =
        serde_json::from_str(&read("grafana-dashboard.json")).unwrap();
    assert_eq!(dashboard["uid"], "framepress");
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has a number of its own");
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{panel}");
        for target in targets {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{target}");
        }
    }
}
