"""The processor of the replaced system: JSON with base64 from a topic, figures in JSON to another.

It does the work of `peer.py legacy`, ML image and thumbnail included, in one process, one message after
the other. The environment names the broker (`PEER_KAFKA`), the topics and the group. The process ends with
its parent, or at SIGTERM.
"""

import json
import os
import signal
import sys

import confluent_kafka

import peer

MESSAGE_BYTES_MAX = 32 << 20


def result(message):
    """The fields of the old result: figures without a picture."""
    traffic = message.traffic_features
    return {
        "frame_id": message.frame_id,
        "camera_id": message.camera_id,
        "timestamp": message.timestamp,
        "quality_score": message.quality_metrics.quality_score,
        "vehicle_density": traffic.vehicle_density,
        "congestion_level": traffic.congestion_level,
        "weather_conditions": traffic.weather_conditions,
        "lighting_conditions": traffic.lighting_conditions,
        "processing_time_ms": message.processing_time_ms,
        "validation_passed": message.validation_passed,
        "source_hash": message.source_hash,
    }


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    worker = peer.Legacy()
    common = {"bootstrap.servers": os.environ["PEER_KAFKA"], "broker.address.family": "v4"}
    consumer = confluent_kafka.Consumer(
        common
        | {
            "group.id": peer.GROUP,
            "auto.offset.reset": "earliest",
            # Store the offset of the last message with a result.
            "enable.auto.offset.store": False,
            "fetch.message.max.bytes": MESSAGE_BYTES_MAX,
        }
    )
    producer = confluent_kafka.Producer(common | {"linger.ms": 0})
    consumer.subscribe([peer.INPUT])
    try:
        while True:
            message = consumer.poll(1.0)
            producer.poll(0)
            if message is None:
                continue
            if message.error():
                raise confluent_kafka.KafkaException(message.error())
            text = json.dumps(result(worker.process(message.value())))
            producer.produce(peer.OUTPUT, text, key=message.key())
            consumer.store_offsets(message)
    finally:
        producer.flush(5)
        consumer.close()


main()
