"""A redis-server and engines for these tests, on free loopback ports."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import redis

PACKAGE = pathlib.Path(__file__).resolve().parents[1]
ROOT = PACKAGE.parent
SERVER = os.environ.get("FRAMEPRESS_REDIS_SERVER") or "redis-server"
PATIENCE = 60.0


def wait_for(what: str, condition: Callable[[], Any], limit: float = PATIENCE) -> Any:
    """Waits for a condition, with a generous limit."""
    end = time.monotonic() + limit
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"not in time: {what}"
        time.sleep(0.01)


def free_port(below: int = 65536) -> int:
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
            if port < below:
                return port


def picture(height: int = 120, width: int = 160, seed: int = 1, gray: bool = False) -> Any:
    """A natural-looking picture, RGB: smooth shading and soft shapes."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(float)
    planes = []
    for channel in range(1 if gray else 3):
        plane = 120 + 60 * np.sin(x / 37 + seed + channel / 3) * np.cos(y / 29 + channel / 4)
        for _ in range(5):
            cx, cy = random.uniform(0, width), random.uniform(0, height)
            plane += 30 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 300)
        planes.append(plane)
    pixels = np.clip(np.stack(planes, axis=-1), 0, 255).astype(np.uint8)
    return pixels[:, :, 0] if gray else pixels


class Server:
    """A redis-server that keeps its data across restarts."""

    def __init__(self, folder: pathlib.Path, *options: str) -> None:
        self.folder = folder
        # The bus port of a Cluster node is 10,000 higher.
        self.port = free_port(55_000)
        self.options = options
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None
        self.client = redis.Redis(port=self.port, protocol=2)
        self.start()

    def start(self) -> None:
        arguments = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        arguments += ["--save", "", "--appendonly", "yes", "--appendfsync", "no", *self.options]
        self.process = subprocess.Popen([SERVER, *arguments], stdout=subprocess.DEVNULL)

        def answers() -> bool:
            try:
                return bool(self.client.ping())
            except redis.exceptions.ConnectionError:
                return False

        try:
            wait_for("redis-server answers", answers)
        except AssertionError:
            self.stop()
            raise

    def stop(self) -> None:
        if self.process is not None:
            self.client.close()
            self.process.terminate()
            self.process.wait()
            self.process = None


class Engine:
    """`framepress run`, ended cleanly at the end of the block."""

    def __init__(self, url: str, config: pathlib.Path | None = None, **settings: str) -> None:
        program = os.environ.get("FRAMEPRESS_BIN")
        if not program:
            pytest.fail("FRAMEPRESS_BIN names the engine under test; `make python-test` sets it")
        self.stats_port = free_port()
        environment = {
            **os.environ,
            "REDIS_QUEUE__URL": url,
            "REDIS_QUEUE__BLOCK_TIME_MS": "100",
            "STATS__ADDR": f"127.0.0.1:{self.stats_port}",
            **settings,
        }
        self.log = tempfile.TemporaryFile()
        arguments = [str(pathlib.Path(program).resolve()), "run"]
        if config is not None:
            arguments += ["--config", str(config)]
        self.process = subprocess.Popen(arguments, env=environment, stderr=self.log)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.log.seek(0)
        text = self.log.read().decode()
        self.log.close()
        assert code == 0, f"exit code {code}\n{text}"


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(pathlib.Path(folder))
        yield server
        server.stop()


@pytest.fixture
def server(redis_server: Server) -> Server:
    """The shared server, emptied."""
    redis_server.client.flushall()
    return redis_server


@pytest.fixture
def own_server(tmp_path: pathlib.Path) -> Iterator[Server]:
    """A server that a test may stop."""
    server = Server(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def ring_folder() -> Iterator[pathlib.Path]:
    """A folder on a tmpfs, as recommended for rings."""
    shared = pathlib.Path("/dev/shm")
    parent = str(shared) if shared.is_dir() and os.access(shared, os.W_OK) else None
    folder = pathlib.Path(tempfile.mkdtemp(prefix="framepress-test-", dir=parent))
    yield folder
    shutil.rmtree(folder)


def run_python(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a program in a new process, with this package on its path."""
    path = os.pathsep.join(p for p in (str(PACKAGE / "src"), os.environ.get("PYTHONPATH")) if p)
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=1800,
    )
