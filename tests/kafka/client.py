"""A producer and a consumer of the replaced system, with confluent-kafka.

Usage: client.py BOOTSTRAP produce|consume TOPIC COUNT
"""

import base64
import io
import json
import sys
import time

from confluent_kafka import Consumer, Producer
from PIL import Image


def produce(bootstrap: str, topic: str, count: int) -> None:
    file = io.BytesIO()
    Image.new("RGB", (64, 48), (90, 120, 40)).save(file, "JPEG")
    image = base64.b64encode(file.getvalue()).decode()
    producer = Producer({"bootstrap.servers": bootstrap, "compression.type": "gzip"})
    for number in range(count):
        camera = f"cam-{number % 4}"
        frame = {
            "frame_id": f"frame-{number:06}",
            "camera_id": camera,
            "timestamp": time.time(),
            "image_base64": image,
        }
        producer.produce(topic, json.dumps(frame).encode(), key=camera)
    assert producer.flush(30) == 0


def consume(bootstrap: str, topic: str, count: int) -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"client-{topic}",
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
    )
    consumer.subscribe([topic])
    last: dict[str, str] = {}
    seen = 0
    end = time.monotonic() + 60
    while seen < count and time.monotonic() < end:
        message = consumer.poll(0.5)
        if message is None or message.error():
            continue
        result = json.loads(message.value())
        camera, frame = result["camera_id"], result["frame_id"]
        assert message.key() == camera.encode()
        assert dict(message.headers())["frame_id"] == frame.encode()
        assert last.get(camera, "") < frame, (camera, last[camera], frame)
        assert 0 <= result["quality_score"] <= 1
        last[camera] = frame
        seen += 1
    consumer.close()
    assert seen == count, seen
    print(f"{seen} results of {len(last)} cameras, in order")


if __name__ == "__main__":
    bootstrap, what, topic, count = sys.argv[1:]
    {"produce": produce, "consume": consume}[what](bootstrap, topic, int(count))
