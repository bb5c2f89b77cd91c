//! `top --once` shows the figures of the API.

use serde_json::Value;

use super::{complains, says};
use crate::support::{FramepressProcess, LONG, RedisServer, free_port, wait_until};

fn get(address: &str, path: &str) -> Option<Value> {
    let mut answer = ureq::get(format!("http://{address}{path}")).call().ok()?;
    serde_json::from_str(&answer.body_mut().read_to_string().ok()?).ok()
}

#[test]
fn plain_text_shows_the_figures_of_the_api() {
    let server = RedisServer::start();
    let address = format!("127.0.0.1:{}", free_port());
    let _engine = FramepressProcess::run(&server, &[("STATS__ADDR", &address)]);
    server.add_frames("north", 7);
    server.wait_for_outputs(7);
    // The engine measures the queues every second; nothing changes afterwards.
    let metrics = || get(&address, "/api/v1/system/metrics").unwrap_or_default();
    wait_until("the figures have settled", LONG, || {
        let metrics = metrics();
        let queues = &metrics["queue_metrics"];
        metrics["conservation"]["out"] == 7
            && queues["output"]["depth"] == 7
            && queues["input"]["pending_count"] == 0
    });
    let metrics = metrics();
    let text = says(0, &["top", "--once", "--url", &address]);

    let latency = &metrics["performance_metrics"]["latency_ms"];
    let mut row = "  end to end ".to_owned();
    for key in ["p50", "p90", "p99", "p999", "max"] {
        row += &format!("{:>9.1}", latency[key].as_f64().unwrap());
    }
    assert!(text.contains(&row), "{row}\n{text}");
    for stage in ["read", "decode", "analyse", "encode", "commit"] {
        let p50 = metrics["performance_metrics"]["stages"][stage]["p50"].as_f64().unwrap();
        assert!(text.contains(&format!("  {stage:<11}{p50:>9.1}")), "{stage} {p50}\n{text}");
    }
    let pending = metrics["queue_metrics"]["input"]["pending_count"].as_u64().unwrap();
    assert!(text.contains(&format!("  input      {:>9}{pending:>9}", 7)), "{text}");
    assert!(text.contains("read 7 = out 7 + rejected 0 + dead 0 + shed 0 + lost 0"), "{text}");
    assert!(text.contains("(it adds up)") && text.contains("* ready"), "{text}");
    let cameras = get(&address, "/api/v1/cameras").unwrap();
    let camera = &cameras["cameras"][0];
    let row = format!("{:<14}", camera["camera_id"].as_str().unwrap());
    let shown = text.lines().find(|line| line.starts_with(&row)).expect("the camera's row");
    let frames = camera["frames_processed"].as_u64().unwrap().to_string();
    assert!(shown.split_whitespace().any(|word| word == frames), "{shown}");
}

#[test]
fn a_token_is_asked_for_and_taken_from_a_file() {
    let server = RedisServer::start();
    let address = format!("127.0.0.1:{}", free_port());
    let environment = [("STATS__ADDR", &*address), ("STATS__TOKEN", "open-sesame")];
    let _engine = FramepressProcess::run(&server, &environment);
    wait_until("the engine answers", LONG, || std::net::TcpStream::connect(&address).is_ok());
    let refused = complains(1, &["top", "--once", "--url", &address]);
    assert!(refused.contains("needs a token: --token-file FILE"), "{refused}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "open-sesame\n").unwrap();
    let file = file.to_str().unwrap();
    let text = says(0, &["top", "--once", "--url", &address, "--token-file", file]);
    assert!(text.contains("latency ms"), "{text}");
}

#[test]
fn an_engine_that_is_not_there_is_a_failure_with_its_reason() {
    let address = format!("127.0.0.1:{}", free_port());
    let said = complains(1, &["top", "--once", "--url", &address]);
    assert!(said.contains(&format!("no answer from http://{address}")), "{said}");
}
