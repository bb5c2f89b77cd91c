"""Interoperability with independent programs: redis-py, google protobuf, Pillow.

Sends frames of every kind as existing producers do, reads the results as existing consumers do, and checks
every field and the pixels. FRAMEPRESS_BIN names the program under test, FRAMEPRESS_REDIS_SERVER another
server than redis-server.
"""

import base64
import contextlib
import io
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

import numpy
import redis
import xxhash
from grpc_tools import protoc
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2]
SERVER = os.environ.get("FRAMEPRESS_REDIS_SERVER") or "redis-server"
WIDTH, HEIGHT = 160, 120
TIMESTAMP = 1700000000.25
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
# Mean absolute difference of the samples at quality 85.
DIFFERENCE_MAX = 4.0
PATIENCE = 180.0

passed = 0
failures = []


def check(name, condition, detail=""):
    """Counts one assertion; a failed one is reported at once and at the end."""
    global passed
    if condition:
        passed += 1
    else:
        failures.append(name)
        print(f"FAILED {name}: {detail}")


def generated(folder):
    """The message classes, generated from the schema as any consumer would."""
    arguments = ["protoc", f"-I{ROOT / 'proto'}", f"--python_out={folder}", "processed_frame.proto"]
    if protoc.main(arguments) != 0:
        sys.exit("the schema does not compile")
    sys.path.insert(0, str(folder))
    import processed_frame_pb2

    return processed_frame_pb2


def picture(seed, channels=3):
    """A natural-looking picture: smooth shading, soft shapes, a little sensor noise."""
    random = numpy.random.default_rng(seed)
    y, x = numpy.mgrid[0:HEIGHT, 0:WIDTH].astype(float)
    planes = []
    for channel in range(channels):
        plane = 120 + 60 * numpy.sin(x / 37 + seed + channel / 3) * numpy.cos(y / 29 + channel / 4)
        for _ in range(5):
            cx, cy = random.uniform(0, WIDTH), random.uniform(0, HEIGHT)
            plane += 30 * numpy.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 300)
        planes.append(plane)
    pixels = numpy.stack(planes, axis=-1) + random.normal(0, 1.0, (HEIGHT, WIDTH, 1))
    pixels = numpy.clip(pixels, 0, 255).astype(numpy.uint8)
    return pixels if channels == 3 else pixels[:, :, 0]


def file_of(pixels, kind):
    """The picture as a file that Pillow writes."""
    out = io.BytesIO()
    options = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def protobuf_entry(pb, name, pixels, form, data):
    frame = pb.ProcessedFrame(frame_id=name, camera_id="py-cam", timestamp=TIMESTAMP)
    image = frame.original_image
    image.compressed_data = data
    image.width, image.height = WIDTH, HEIGHT
    image.channels = 1 if pixels.ndim == 2 else 3
    image.compression_format = form
    return {"data": frame.SerializeToString()}


def json_entry(name, **picture_field):
    frame = {"frame_id": name, "camera_id": "py-cam", "timestamp": TIMESTAMP, **picture_field}
    return {"data": json.dumps(frame)}


def inputs(pb):
    """Name, pixels, image bytes, entry."""
    color, gray = picture(1), picture(2, channels=1)
    yield "pb-raw", color, color.tobytes(), protobuf_entry(pb, "pb-raw", color, "raw", color.tobytes())
    yield "pb-gray", gray, gray.tobytes(), protobuf_entry(pb, "pb-gray", gray, "raw", gray.tobytes())
    for number, kind in enumerate(("JPEG", "PNG", "WEBP")):
        pixels = picture(10 + number)
        data = file_of(pixels, kind)
        name = f"pb-{kind.lower()}"
        yield name, pixels, data, protobuf_entry(pb, name, pixels, kind.lower(), data)
    for number, kind in enumerate(("JPEG", "PNG")):
        pixels = picture(20 + number)
        data = file_of(pixels, kind)
        name = f"json-{kind.lower()}"
        yield name, pixels, data, json_entry(name, image_base64=base64.b64encode(data).decode())
    for name, pixels in (("json-array", picture(30)), ("json-gray-array", picture(31, channels=1))):
        yield name, pixels, pixels.tobytes(), json_entry(name, image_array=pixels.tolist())


def decoded(image):
    """The pixels of a result, decoded by Pillow, and the format it found."""
    if image.compression_format == "raw":
        shape = (image.height, image.width) if image.channels == 1 else (image.height, image.width, 3)
        return numpy.frombuffer(image.compressed_data, numpy.uint8).reshape(shape), "raw"
    opened = Image.open(io.BytesIO(image.compressed_data))
    opened.load()
    return numpy.asarray(opened), opened.format.lower()


def difference(sent, got):
    """Mean absolute difference; a gray picture is compared as one of equal colours."""
    as_color = [a if a.ndim == 3 else numpy.repeat(a[:, :, None], 3, axis=2) for a in (sent, got)]
    return float(numpy.abs(as_color[0].astype(int) - as_color[1].astype(int)).mean())


def check_result(pb, form, sent, entry, began):
    name, pixels, data, entry_id = sent
    label = f"{form}: {name}"
    frame = pb.ProcessedFrame()
    frame.ParseFromString(entry[b"data"])
    image = frame.original_image

    def same(field, got, wanted):
        check(f"{label}: {field}", got == wanted, f"{got!r}, expected {wanted!r}")

    same("frame_id", frame.frame_id, name)
    same("camera_id", frame.camera_id, "py-cam")
    same("timestamp", frame.timestamp, TIMESTAMP)
    same("stage", frame.processing_stage, pb.PROCESSING_STAGE_OUTPUT)
    same("version", frame.version, "1.0")
    same("validation_passed", frame.validation_passed, True)
    same("source_hash", frame.source_hash, xxhash.xxh3_64_hexdigest(data))
    now = time.time()
    ordered = began - 0.1 <= frame.received_timestamp <= frame.processed_timestamp <= now + 0.1
    check(f"{label}: times", ordered, f"{frame.received_timestamp} {frame.processed_timestamp}")
    between = 1000 * (frame.processed_timestamp - frame.received_timestamp)
    close = 0 < frame.processing_time_ms and abs(frame.processing_time_ms - between) < 0.01
    check(f"{label}: processing_time_ms", close, f"{frame.processing_time_ms}, {between}")

    same("size", (image.width, image.height), (WIDTH, HEIGHT))
    same("channels", image.channels, 1 if pixels.ndim == 2 else 3)
    same("compression_format", image.compression_format, form)
    same("quality", image.quality, 85 if form in ("jpeg", "webp") else 0)
    got, found = decoded(image)
    same("format of the bytes", found, form)
    apart = difference(pixels, got)
    check(f"{label}: pixels", apart <= DIFFERENCE_MAX, f"mean difference {apart:.2f}")
    if form in ("png", "raw") and name in ("pb-raw", "pb-gray", "pb-png", "json-png", "json-array"):
        same("lossless", apart, 0.0)

    figures = frame.quality_metrics
    shares = [
        figures.quality_score,
        figures.blur_score,
        figures.brightness_score,
        figures.contrast_score,
        figures.noise_level,
    ]
    check(f"{label}: quality figures", all(0 <= share <= 1 for share in shares), shares)
    check(f"{label}: quality is there", frame.HasField("quality_metrics"))
    traffic = frame.traffic_features
    known = traffic.congestion_level in ("free_flow", "low", "medium", "high")
    check(f"{label}: congestion", known, traffic.congestion_level)
    weather = ("foggy", "overcast", "clear", "partly_cloudy")
    check(f"{label}: weather", traffic.weather_conditions in weather, traffic.weather_conditions)
    light = ("bright", "normal", "dim", "dark")
    check(f"{label}: lighting", traffic.lighting_conditions in light, traffic.lighting_conditions)
    check(f"{label}: density", 0 <= traffic.vehicle_density <= 1, traffic.vehicle_density)
    check(f"{label}: motion", 0 <= traffic.motion_intensity <= 1, traffic.motion_intensity)

    same("field frame_id", entry[b"frame_id"], name.encode())
    same("field camera_id", entry[b"camera_id"], b"py-cam")
    same("field timestamp", float(entry[b"timestamp"]), TIMESTAMP)
    same("field source_id", entry[b"source_id"], entry_id)
    same("field traceparent", entry.get(b"traceparent"), TRACE.encode())


class Engine:
    """`framepress run`, ended cleanly at the end of the block."""

    def __init__(self, port, form, **settings):
        environment = {
            **os.environ,
            **settings,
            "REDIS_QUEUE__URL": f"redis://127.0.0.1:{port}/0",
            "REDIS_QUEUE__BLOCK_TIME_MS": "100",
            "STATS__ADDR": "null",
        }
        if form == "raw":
            environment["REDIS_QUEUE__ENABLE_COMPRESSION"] = "false"
        else:
            environment["REDIS_QUEUE__COMPRESSION_FORMAT"] = form
        program = str(pathlib.Path(os.environ["FRAMEPRESS_BIN"]).resolve())
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen([program, "run"], env=environment, stderr=self.log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = "none, it had to be killed"
        self.log.seek(0)
        check("the engine stops in order", code == 0, f"exit code {code}\n{self.log.read().decode()}")


def wait_for(what, condition):
    limit = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > limit:
            check(what, False, "not in time")
            return
        time.sleep(0.02)


def round_trip(client, port, pb, form):
    """Sends every input through an engine that writes `form`."""
    client.flushall()
    began = time.time()
    with Engine(port, form):
        sent = []
        for name, pixels, data, entry in inputs(pb):
            entry_id = client.xadd("camera_frames", {**entry, "traceparent": TRACE})
            sent.append((name, pixels, data, entry_id))
        wait_for(f"{form}: results", lambda: client.xlen("processed_frames") >= len(sent))
        results = {fields[b"source_id"]: fields for _, fields in client.xrange("processed_frames")}
        check(f"{form}: one result each", len(results) == len(sent), len(results))
        for one in sent:
            name, entry_id = one[0], one[3]
            check(f"{form}: {name} came out", entry_id in results)
            if entry_id in results:
                check_result(pb, form, one, results[entry_id], began)
        wait_for(
            f"{form}: all acknowledged",
            lambda: client.xpending("camera_frames", "stream_processor")["pending"] == 0,
        )


def dead_letters(client, port):
    """A refused entry keeps every field, of any kind."""
    client.flushall()
    entry = {"data": b'{"frame_id": "broken', "camera_id": "py-cam", "extra": bytes(range(256))}
    with Engine(port, "jpeg"):
        entry_id = client.xadd("camera_frames", entry)
        wait_for("a dead letter", lambda: client.xlen("camera_frames:dlq") == 1)
        letters = client.xrange("camera_frames:dlq")
    fields = letters[0][1] if letters else {}
    for name, value in entry.items():
        value = value if isinstance(value, bytes) else value.encode()
        check(f"dead letter: {name}", fields.get(name.encode()) == value, fields)
    check("dead letter: original_id", fields.get(b"original_id") == entry_id, fields)
    check("dead letter: queue", fields.get(b"queue") == b"camera_frames", fields)
    check("dead letter: reason", fields.get(b"reason") == b"undecodable", fields)
    check("dead letter: deliveries", fields.get(b"deliveries") == b"1", fields)
    for name in (b"detail", b"stage", b"failed_at"):
        check(f"dead letter: {name.decode()}", bool(fields.get(name)), fields)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def shards():
    """A producer in another language finds the shard of a camera by the documented rule."""
    table = (ROOT / "tests" / "topology" / "shards.tsv").read_text(encoding="utf-8").splitlines()
    for line in table[1:]:
        camera, digest, *columns = line.split("\t")
        number = xxhash.xxh3_64_intdigest(camera.encode())
        check(f"hash of {camera}", f"{number:016x}" == digest, digest)
        for count, column in zip((2, 3, 4, 16), columns, strict=True):
            check(f"shard of {camera} of {count}", number % count == int(column), column)


def ring(client, port, pb):
    """Runs the producer from docs/ring.md unchanged."""
    text = (ROOT / "docs" / "ring.md").read_text(encoding="utf-8")
    program = text.split("```python\n")[1].split("```")[0]
    check("ring: at most 60 lines", program.count("\n") <= 60, program.count("\n"))
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        client.flushall()
        with Engine(port, "jpeg", RING__DIR=folder):
            command = [sys.executable, "-c", program, folder, str(port)]
            said = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
            check("ring: the producer ends well", said.returncode == 0, said.stderr)
            wait_for("the frames of the ring", lambda: client.xlen("processed_frames") == 3)
            for number, (_, fields) in enumerate(client.xrange("processed_frames")):
                frame = pb.ProcessedFrame()
                frame.ParseFromString(fields[b"data"])
                check("ring: frame_id", frame.frame_id == f"frame-{number}", frame.frame_id)
                got, _ = decoded(frame.original_image)
                apart = difference(numpy.full((480, 640, 3), 60 * number, numpy.uint8), got)
                check("ring: pixels", apart < 1, f"mean difference {apart:.2f}")


@contextlib.contextmanager
def database():
    """A Redis server for this run: yields a client and the port."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        server = subprocess.Popen(
            [SERVER, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", folder],
            stdout=subprocess.DEVNULL,
        )
        try:
            client = redis.Redis(port=port)

            def answers():
                try:
                    return client.ping()
                except redis.exceptions.ConnectionError:
                    return False

            wait_for("redis-server answers", answers)
            yield client, port
        finally:
            server.terminate()
            server.wait()


def main():
    if "FRAMEPRESS_BIN" not in os.environ:
        sys.exit("FRAMEPRESS_BIN names the program under test; `make python-test` sets it")
    shards()
    with tempfile.TemporaryDirectory() as folder, database() as (client, port):
        pb = generated(folder)
        for form in ("jpeg", "webp", "png", "raw"):
            round_trip(client, port, pb, form)
        dead_letters(client, port)
        ring(client, port, pb)
    print(f"interop: {passed} passed, {len(failures)} failed")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
