//! Errors that a real broker does not give on demand, from librdkafka's mock cluster.

use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr as Code};
use rdkafka::{ClientConfig, types::RDKafkaApiKey as Api};
use redis::{Value, cmd};

use crate::support::{Carried, LONG, frames};

fn cluster() -> (MockCluster<'static, DefaultProducerContext>, String) {
    let cluster = MockCluster::new(1).unwrap();
    let bootstrap = cluster.bootstrap_servers();
    cluster.create_topic("frames", 1, 1).unwrap();
    cluster.create_topic("results", 1, 1).unwrap();
    cluster.create_topic("framepress_bridge_positions", 1, 1).unwrap();
    (cluster, bootstrap)
}

#[test]
fn what_may_pass_is_tried_again_and_nothing_comes_twice() {
    let (cluster, bootstrap) = cluster();
    let mut client = ClientConfig::new();
    let producer: BaseProducer = client.set("bootstrap.servers", &bootstrap).create().unwrap();
    for frame in frames(0, 50, 1) {
        let (key, value) = (frame.key.unwrap(), frame.value.unwrap());
        let record = BaseRecord::to("frames").partition(0).key(&key).payload(&value);
        assert!(producer.send(record).is_ok());
    }
    producer.flush(LONG).unwrap();
    let carried = Carried::at(&bootstrap, "frames", "results");

    let of_group: [(RDKafkaApiKey, &[Code]); 4] = [
        (Api::FindCoordinator, &[Code::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE]),
        (Api::JoinGroup, &[Code::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS]),
        (Api::ListOffsets, &[Code::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE]),
        (
            Api::Fetch,
            &[
                Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
                Code::RD_KAFKA_RESP_ERR_UNKNOWN,
                Code::RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE,
            ],
        ),
    ];
    for (api, errors) in of_group {
        cluster.request_errors(api, errors);
    }
    let mut bridge = carried.bridge("kafka-to-redis");
    carried.wait_for_frames(50);
    bridge.signal(rustix::process::Signal::TERM);
    bridge.ends_with(0);
    carried.assert_once_and_in_order(50);

    for number in 0..30 {
        let frame = framepress::internals::wire::proto::ProcessedFrame {
            frame_id: format!("frame-{number:06}"),
            ..Default::default()
        };
        let data = prost::Message::encode_to_vec(&frame);
        let mut command = cmd("XADD");
        let _: Value =
            carried.server.ask(command.arg(&carried.results).arg("*").arg("data").arg(data));
    }
    let of_transaction: [(RDKafkaApiKey, &[Code]); 4] = [
        (Api::InitProducerId, &[Code::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS]),
        (Api::AddPartitionsToTxn, &[Code::RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS]),
        (Api::EndTxn, &[Code::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE]),
        (Api::Produce, &[Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS]),
    ];
    for (api, errors) in of_transaction {
        cluster.request_errors(api, errors);
    }
    let said = carried.catch_up("redis-to-kafka");
    assert!(said.contains("30 messages, 0 refused, 0 fenced, 0 lost"), "{said}");
    let said = carried.catch_up("redis-to-kafka");
    assert!(said.contains("0 messages"), "the place is stored: {said}");

    // Another producer has the same transactional id, so the bridge does not retry.
    let mut command = cmd("XADD");
    let _: Value = carried.server.ask(command.arg(&carried.results).arg("*").arg("data").arg(""));
    cluster.request_errors(Api::EndTxn, &[Code::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH]);
    let said = carried.start(&["bridge", "redis-to-kafka"]).ends_with(1);
    assert!(said.contains("another redis-to-kafka bridge"), "{said}");
}
