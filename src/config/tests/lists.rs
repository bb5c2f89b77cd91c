use super::*;

#[test]
fn faults_in_cameras_bear_their_index() {
    let boxed = |roi: &str| format!("cameras: [{{id: a}}, {{id: b, roi_boxes: [{{{roi}}}]}}]");
    check(
        &boxed("x: 0, y: 0, width: 1, height: 1, widht: 2"),
        &["cameras[1].roi_boxes[0].widht = 2", "unknown key; did you mean width?"],
    );
    check(
        &boxed("x: 0, y: 0, width: 0, height: 1"),
        &["cameras[1].roi_boxes[0].width = 0", "from 1"],
    );
    check(
        &boxed("x: -1, y: 0, width: 1, height: 1"),
        &["cameras[1].roi_boxes[0].x = -1", "from 0"],
    );
    check(&boxed("x: 0, y: 0, width: 1"), &["cameras[1].roi_boxes[0] (", "height is missing"]);
    check(&boxed("x: 2147483647, y: 0, width: 1, height: 1"), &["roi_boxes[0].width", "edge"]);
    check(&boxed("x: 0, y: 0, width: 1, height: 1, label: 3"), &["label = 3", "quotes"]);
}

#[test]
fn faults_in_different_cameras_are_all_reported() {
    let lines = faults("cameras: [{quality_threshold: 2}, 5, {id: '', roi_boxes: 3}]");
    assert_eq!(lines.len(), 5, "{lines:#?}");
    for (line, key) in lines.iter().zip([
        "cameras[0] (",
        "cameras[0].quality_threshold = 2 ",
        "cameras[1] = 5 ",
        "cameras[2].id = \"\" ",
        "cameras[2].roi_boxes = 3 ",
    ]) {
        assert!(line.starts_with(key), "{key}: {line}");
    }
}

#[test]
fn camera_ids_are_text_and_distinct() {
    check("cameras: [{id: 7}]", &["cameras[0].id = 7", "quotes"]);
    check("cameras: [{id: a}, {id: b}, {id: a}]", &["cameras[2].id = \"a\"", "of its own"]);
    check("cameras: {a: {}}", &["cameras = {", "a list of cameras"]);
    assert_eq!(valid("cameras: [{id: Main St 1}]").cameras[0].id, "Main St 1");
}

#[test]
fn sentinels_have_a_host_and_a_port() {
    let nodes =
        |node: &str| format!("redis_queue: {{sentinel_service_name: m, sentinel_nodes: [{node}]}}");
    check(&nodes("{host: a}"), &["redis_queue.sentinel_nodes[0]", "port is missing"]);
    check(&nodes("{host: a, port: 0}"), &["sentinel_nodes[0].port = 0", "1 to 65535"]);
    check(&nodes("{host: 'a b', port: 1}"), &["sentinel_nodes[0].host", "host name"]);
    check(&nodes("{host: a, prot: 1, port: 2}"), &["sentinel_nodes[0].prot", "mean port?"]);
    check(&nodes("'a:70000'"), &["sentinel_nodes[0]", "host:port"]);
    check(&nodes("[a, b]"), &["sentinel_nodes[0]"]);
    assert_eq!(valid(&nodes("'[::1]:5'")).redis_queue.sentinel_nodes[0].host, "::1");
}

#[test]
fn pinned_cores_are_distinct_numbers() {
    let pin = |list: &str| format!("engine: {{pin: {list}}}");
    check(&pin("[0, 0]"), &["engine.pin[1] = 0", "each core once"]);
    check(&pin("[a]"), &["engine.pin[0] = \"a\"", "whole number"]);
    check(&pin("[]"), &["engine.pin = []", "auto, off"]);
    check(&pin("3"), &["engine.pin = 3", "auto, off"]);
    check(&pin("null"), &["engine.pin = null", "auto, off"]);
}
