"""The engine's work in Python: one process of a consumer group.

`legacy` is the replaced system: legacy JSON with base64 in, OpenCV analysis, Pillow with `optimize`, one
entry after the other. `tuned` is optimised Python: hiredis, simplejpeg, one message class, XADD and XACK of a
batch in one pipeline, no analysis.

The environment names the Redis socket, the streams, the group and this consumer (`PEER_...`). The process
ends with its parent, or at SIGTERM.
"""

import base64
import io
import json
import os
import pathlib
import signal
import sys
import tempfile
import time

import redis

ROOT = pathlib.Path(__file__).resolve().parents[3]
INPUT, OUTPUT = os.environ["PEER_INPUT"], os.environ["PEER_OUTPUT"]
GROUP, CONSUMER = os.environ["PEER_GROUP"], os.environ["PEER_CONSUMER"]
QUALITY = 85
BATCH = 20
BLOCK_MS = 200
OUTPUT_LENGTH = 10_000


def message_classes():
    """Message classes generated from the schema."""
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory(prefix="framepress-peer-") as folder:
        path = f"-I{ROOT / 'proto'}"
        if protoc.main(["protoc", path, f"--python_out={folder}", "processed_frame.proto"]) != 0:
            sys.exit("the schema does not compile")
        sys.path.insert(0, folder)
        import processed_frame_pb2

        return processed_frame_pb2


pb = message_classes()


def entries(connection, batch):
    """Yields the entries of this consumer without end."""
    while True:
        reply = connection.xreadgroup(GROUP, CONSUMER, {INPUT: ">"}, count=batch, block=BLOCK_MS)
        # A list of pairs or a dictionary, depending on the protocol version.
        streams = reply.items() if isinstance(reply, dict) else reply or []
        for _, found in streams:
            if found and isinstance(found[0], list):
                found = found[0]
            yield found


def side_fields(message, entry):
    return {
        "data": message.SerializeToString(),
        "frame_id": message.frame_id,
        "camera_id": message.camera_id,
        "timestamp": repr(message.timestamp),
        "source_id": entry,
    }


def picture(into, data, width, height, quality=QUALITY):
    into.compressed_data = data
    into.width, into.height, into.channels = width, height, 3
    into.compression_format, into.quality = "jpeg", quality


class Legacy:
    """The replaced system, with the figures as src/analysis defines them."""

    def __init__(self):
        import cv2
        import numpy
        import xxhash
        from PIL import Image

        # One thread per process, as the engine is compared by CPU time and by processes on all cores.
        cv2.setNumThreads(1)
        self.cv2, self.np, self.xxhash, self.image = cv2, numpy, xxhash, Image
        self.cameras = {}

    def run(self, connection):
        for found in entries(connection, BATCH):
            for entry, fields in found:
                message = self.process(fields[b"data"])
                result = side_fields(message, entry)
                connection.xadd(OUTPUT, result, maxlen=OUTPUT_LENGTH, approximate=True)
                connection.xack(INPUT, GROUP, entry)

    def process(self, data):
        cv2, np = self.cv2, self.np
        received = time.time()
        frame = json.loads(data)
        coded = base64.b64decode(frame["image_base64"])
        bgr = cv2.imdecode(np.frombuffer(coded, np.uint8), cv2.IMREAD_COLOR)
        height, width = bgr.shape[:2]
        message = pb.ProcessedFrame(
            frame_id=frame["frame_id"],
            camera_id=frame["camera_id"],
            timestamp=frame["timestamp"],
            version="1.0",
            source_hash=f"{self.xxhash.xxh3_64_intdigest(coded):016x}",
            received_timestamp=received,
            validation_passed=True,
            processing_stage=pb.PROCESSING_STAGE_OUTPUT,
        )
        self.figures(message, bgr)
        picture(message.original_image, self.jpeg(bgr), width, height)
        picture(message.processed_image, self.jpeg(self.letterbox(bgr)), 640, 640)
        small = cv2.resize(bgr, (128, 128), interpolation=cv2.INTER_AREA)
        picture(message.thumbnail, self.jpeg(small, 90), 128, 128, 90)
        message.processed_timestamp = time.time()
        message.processing_time_ms = 1000 * (message.processed_timestamp - received)
        return message

    def jpeg(self, bgr, quality=QUALITY):
        rgb = self.cv2.cvtColor(bgr, self.cv2.COLOR_BGR2RGB)
        file = io.BytesIO()
        self.image.fromarray(rgb).save(file, "JPEG", quality=quality, optimize=True)
        return file.getvalue()

    def letterbox(self, bgr, side=640, padding=114):
        cv2, np = self.cv2, self.np
        height, width = bgr.shape[:2]
        scale = side / max(height, width)
        size = (round(width * scale), round(height * scale))
        small = cv2.resize(bgr, size, interpolation=cv2.INTER_LINEAR)
        canvas = np.full((side, side, 3), padding, np.uint8)
        top, left = (side - size[1]) // 2, (side - size[0]) // 2
        canvas[top : top + size[1], left : left + size[0]] = small
        return canvas

    def figures(self, message, bgr):
        cv2, np = self.cv2, self.np
        gray = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
        mean, deviation = (float(value[0, 0]) for value in cv2.meanStdDev(gray))
        high_pass = np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]], np.float32)
        quality = message.quality_metrics
        quality.blur_score = min(1.0, cv2.Laplacian(gray, cv2.CV_64F).var() / 1000)
        distance = max(30 - mean, mean - 220, 0)
        quality.brightness_score = max(0.0, 1 - distance / 100)
        quality.contrast_score = min(1.0, deviation / 80)
        quality.noise_level = max(0.0, 1 - cv2.filter2D(gray, cv2.CV_8U, high_pass).std() / 50)
        score = (
            0.3 * quality.blur_score
            + 0.25 * quality.brightness_score
            + 0.25 * quality.contrast_score
            + 0.2 * quality.noise_level
        )
        quality.quality_score = min(1.0, max(0.0, score))

        traffic = message.traffic_features
        light = float(bgr.max(axis=2).mean())
        traffic.lighting_conditions = (
            "bright" if light > 180 else "normal" if light > 100 else "dim" if light > 50 else "dark"
        )
        if deviation < 30 and mean < 100:
            traffic.weather_conditions = "foggy"
        elif mean < 80:
            traffic.weather_conditions = "overcast"
        elif deviation > 60:
            traffic.weather_conditions = "clear"
        else:
            traffic.weather_conditions = "partly_cloudy"
        if message.camera_id not in self.cameras:
            background = cv2.createBackgroundSubtractorMOG2(detectShadows=True)
            self.cameras[message.camera_id] = [background, None]
        camera = self.cameras[message.camera_id]
        # At reduced resolution like the engine: at full size MOG2 costs many times more.
        factor = max(1, -(-max(gray.shape) // 160))
        size = (gray.shape[1] // factor, gray.shape[0] // factor)
        small = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
        mask = camera[0].apply(small)
        traffic.vehicle_density = float((mask == 255).mean())
        before, camera[1] = camera[1], small
        if before is not None:
            traffic.motion_intensity = min(1.0, float(cv2.absdiff(small, before).mean()) / 32)
        density = traffic.vehicle_density
        traffic.congestion_level = (
            "high"
            if density >= 0.6
            else "medium" if density >= 0.3 else "low" if density >= 0.1 else "free_flow"
        )


class Tuned:
    """As fast as pure Python with C extensions gets."""

    def __init__(self):
        import numpy
        import simplejpeg

        self.np, self.encode = numpy, simplejpeg.encode_jpeg

    def run(self, connection):
        for found in entries(connection, BATCH):
            for entry, fields in found:
                result = side_fields(self.process(fields[b"data"]), entry)
                pipeline = connection.pipeline(transaction=False)
                pipeline.xadd(OUTPUT, result, maxlen=OUTPUT_LENGTH, approximate=True)
                pipeline.xack(INPUT, GROUP, entry)
                pipeline.execute()

    def process(self, data):
        received = time.time()
        frame = pb.ProcessedFrame.FromString(data)
        image = frame.original_image
        width, height = image.width, image.height
        pixels = self.np.frombuffer(image.compressed_data, self.np.uint8)
        coded = self.encode(
            pixels.reshape(height, width, 3), QUALITY, "RGB", "420", fastdct=False
        )
        message = pb.ProcessedFrame(
            frame_id=frame.frame_id,
            camera_id=frame.camera_id,
            timestamp=frame.timestamp,
            version="1.0",
            received_timestamp=received,
            validation_passed=True,
            processing_stage=pb.PROCESSING_STAGE_OUTPUT,
        )
        picture(message.original_image, coded, width, height)
        message.processed_timestamp = time.time()
        message.processing_time_ms = 1000 * (message.processed_timestamp - received)
        return message


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    worker = {"legacy": Legacy, "tuned": Tuned}[sys.argv[1]]()
    connection = redis.Redis(unix_socket_path=os.environ["PEER_SOCKET"])
    # Signals that this process is ready, as an empty first read would not.
    connection.xgroup_createconsumer(INPUT, GROUP, CONSUMER)
    worker.run(connection)


if __name__ == "__main__":
    main()
