//! An independent client on the other end: confluent-kafka, from PyPI.

use std::process::Command;

use crate::common::{RunningEngine, root, skip, wait_until};
use crate::support::{Carried, LONG, shared};

#[test]
fn a_python_producer_and_a_python_consumer_see_no_difference() {
    let Some(broker) = shared() else { return };
    let python = root().join("tests/python/.venv/bin/python");
    let has_client = |output: std::process::Output| output.status.success();
    let import = Command::new(&python).args(["-c", "import confluent_kafka"]).output();
    if !import.is_ok_and(has_client) {
        skip("no confluent-kafka in tests/python/.venv (make test installs it)");
        return;
    }
    let carried = Carried::new(broker, 2);
    let run = |arguments: &[&str]| {
        let script = root().join("tests/kafka/client.py");
        let output = Command::new(&python)
            .arg(script)
            .arg(broker.bootstrap())
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}{complaint}");
        said
    };
    run(&["produce", &carried.input, "40"]);
    carried.catch_up("kafka-to-redis");
    let engine =
        RunningEngine::start(&carried.server, &[("redis_queue.output_queue", &carried.results)]);
    wait_until("results", LONG, || carried.server.len(&carried.results) == 40);
    engine.stop();
    carried.catch_up("redis-to-kafka");
    let said = run(&["consume", &carried.output, "40"]);
    assert!(said.contains("40 results of 4 cameras, in order"), "{said}");
}
