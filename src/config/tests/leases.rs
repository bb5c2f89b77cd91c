use super::*;

#[test]
fn streams_are_exclusive_from_two_shards_on_unless_they_are_to_be_shared() {
    let is_exclusive =
        |rest: &str| valid(&format!("redis_queue: {{{rest}}}")).redis_queue.is_exclusive();
    assert!(!is_exclusive("shards: 1"));
    assert!(is_exclusive("shards: 2"));
    assert!(!is_exclusive("shards: 2, assignment: shared"));
    assert!(is_exclusive("assignment: exclusive"));
    check("redis_queue: {assignment: mine}", &["auto", "shared", "exclusive"]);
}

#[test]
fn a_stream_under_a_lease_has_one_reader() {
    let typed = "redis_queue: {shards: 2}\nengine: {readers: 3, ordering: none}";
    check(typed, &["under a lease one stream has one reader", "assignment: shared"]);
    valid("redis_queue: {shards: 2, assignment: shared}\nengine: {readers: 3, ordering: none}");
}

#[test]
fn in_a_cluster_a_single_stream_under_a_lease_needs_a_hash_tag() {
    let queue = |names: &str| {
        format!(
            "redis_queue: {{url: 'redis-cluster://c', delivery: at_least_once, assignment: exclusive, {names}}}"
        )
    };
    check(&queue("shards: 1"), &["the lease and the results must lie in the slot of the input"]);
    valid(&queue("input_queue: '{camera}', output_queue: '{camera}:out'"));
    valid(&queue("shards: 2"));
}
