"""What a 1080p frame costs its producer: through redis-py as it is done today, `Producer`, and a ring.

The methods alternate within one run, so that changes of the machine's speed affect all of them equally.
CPU time is that of this process, user and system; the server's is listed separately.

    python bench/sending.py [--frames 120] [--rounds 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pathlib
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any, Callable

import numpy as np
import redis

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "src"))

import framepress
from framepress._pb import ProcessedFrame
from framepress.compat import StreamProcessor

SERVER = os.environ.get("FRAMEPRESS_REDIS_SERVER") or "redis-server"
WIDTH, HEIGHT = 1920, 1080
#: Frames kept in the stream, so that the server's memory stays the same.
KEPT = 8


class Server:
    def __init__(self, folder: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        arguments = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--dir", folder]
        self.process = subprocess.Popen([SERVER, *arguments], stdout=subprocess.DEVNULL)
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis(port=self.port)
        while True:
            try:
                self.client.ping()
                return
            except redis.exceptions.ConnectionError:
                time.sleep(0.02)

    def cpu(self) -> float:
        stat = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self.client.close()
        self.process.terminate()
        self.process.wait()


def with_redis_py(server: Server) -> Callable[[Any, int], None]:
    """A message of the generated classes, and XADD."""
    client = redis.Redis(port=server.port)

    def send(image: Any, number: int) -> None:
        frame = ProcessedFrame(frame_id=f"f{number}", camera_id="cam", timestamp=time.time())
        frame.original_image.compressed_data = image.tobytes()
        frame.original_image.width, frame.original_image.height = WIDTH, HEIGHT
        frame.original_image.channels = 3
        frame.original_image.compression_format = "raw"
        entry = {"data": frame.SerializeToString()}
        client.xadd("camera_frames", entry, maxlen=KEPT, approximate=False)

    return send


def with_producer(producer: framepress.Producer, server: Server) -> Callable[[Any, int], None]:
    def send(image: Any, number: int) -> None:
        producer.send(image, "cam", layout="rgb24", frame_id=f"f{number}")
        if number % KEPT == 0:
            server.client.xtrim("camera_frames", maxlen=1, approximate=False)

    return send


def sending(frames: int, rounds: int) -> dict[str, Any]:
    # A different picture each time, as from a camera, so that none stays in the CPU cache.
    images = [np.random.default_rng(n).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8) for n in range(6)]
    shared = pathlib.Path("/dev/shm")
    folder = tempfile.mkdtemp(prefix="framepress-bench-", dir=shared if shared.is_dir() else None)
    server = Server(folder)
    ring = framepress.Ring("bench", slots=KEPT, directory=folder, checksum=True)
    unchecked = framepress.Ring("plain", slots=KEPT, directory=folder, checksum=False)
    producers = {
        "producer": framepress.Producer(server.url),
        "ring": framepress.Producer(server.url, ring=ring),
        "ring without checksum": framepress.Producer(server.url, ring=unchecked),
    }
    methods: dict[str, Callable[[Any, int], None]] = {"redis-py": with_redis_py(server)}
    methods.update({name: with_producer(one, server) for name, one in producers.items()})
    samples: dict[str, list[tuple[float, float, float]]] = {name: [] for name in methods}
    try:
        for sample in range(rounds + 1):
            for name, send in methods.items():
                server.client.delete("camera_frames")
                cpu, wall, server_cpu = time.process_time(), time.perf_counter(), server.cpu()
                for number in range(frames):
                    send(images[number % len(images)], number)
                wall = (time.perf_counter() - wall) / frames
                cpu = (time.process_time() - cpu) / frames
                server_cpu = (server.cpu() - server_cpu) / frames
                if sample:  # The first round warms up.
                    samples[name].append((1000 * cpu, 1000 * wall, 1000 * server_cpu))
    finally:
        for producer in producers.values():
            producer.close(remove_ring=True)
        server.stop()
        shutil.rmtree(folder)
    names = ("cpu_ms", "wall_ms", "server_cpu_ms")
    result: dict[str, Any] = {
        name: {key: statistics.median(column) for key, column in zip(names, zip(*found))}
        for name, found in samples.items()
    }
    for name in methods:
        for key in ("cpu_ms", "wall_ms"):
            result[name][f"times_cheaper_{key[:-3]}"] = result["redis-py"][key] / result[name][key]
    return result


def old_program(rounds: int) -> dict[str, float]:
    """`enqueue_frame_for_processing` of 640x480x3: as a list, like old programs, and as an array."""
    image = np.random.default_rng(1).integers(0, 256, (640, 480, 3), np.uint8)
    as_list = image.tolist()

    async def main(url: str, client: redis.Redis) -> dict[str, float]:
        found: dict[str, list[float]] = {"list": [], "array": []}
        async with StreamProcessor({"redis_url": url}) as processor:
            for sample in range(rounds + 1):
                for name, given, count in (("list", as_list, 5), ("array", image, 50)):
                    began = time.perf_counter()
                    for _ in range(count):
                        frame = {"camera_id": "c", "frame_id": "f", "image_array": given}
                        await processor.enqueue_frame_for_processing(frame)
                    if sample:
                        found[name].append(1000 * (time.perf_counter() - began) / count)
                    client.delete("camera_frames")
        result = {f"{name}_wall_ms": statistics.median(times) for name, times in found.items()}
        # This excludes the program's time to make the list.
        result["times_faster"] = result["list_wall_ms"] / result["array_wall_ms"]
        return result

    with tempfile.TemporaryDirectory() as folder:
        server = Server(folder)
        try:
            return asyncio.run(main(server.url, server.client))
        finally:
            server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    found = sending(arguments.frames, arguments.rounds)
    columns = f"{'CPU ms':>8} {'wall ms':>8} {'server CPU':>11} {'of redis-py':>12}"
    print(f"{'1080p rgb24, a frame':24} {columns}")
    for name, row in found.items():
        print(
            f"{name:24} {row['cpu_ms']:8.2f} {row['wall_ms']:8.2f} {row['server_cpu_ms']:11.2f} "
            f"{1 / row['times_cheaper_cpu']:12.3f}"
        )
    old = old_program(arguments.rounds)
    print(
        f"old program, 640x480x3: list {old['list_wall_ms']:.2f} ms, "
        f"array {old['array_wall_ms']:.2f} ms: {old['times_faster']:.0f} times faster"
    )
    if arguments.json:
        machine = {"python": platform.python_version(), "machine": platform.machine()}
        report = {"sending_1080p": found, "old_program": old, "machine": machine}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
