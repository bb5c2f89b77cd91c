"""The programs of README.md, run unchanged."""

from __future__ import annotations

import pathlib
import re

import numpy as np
import pytest
from conftest import PACKAGE, Engine, Server, picture, run_python

import framepress

README = (PACKAGE / "README.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", README, flags=re.M | re.S)
TITLES = re.findall(r"^## (.*)$", README, flags=re.M)


def run(server: Server, program: str, *arguments: str, **environment: str) -> str:
    done = run_python(program, *arguments, REDIS_QUEUE__URL=server.url, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_are_five() -> None:
    assert len(PROGRAMS) == 5
    assert TITLES[:5] == [
        "Send from OpenCV",
        "Send through a ring",
        "Read results",
        "asyncio",
        "The old code",
    ]


def test_send_from_opencv_and_read_results(server: Server, tmp_path: pathlib.Path) -> None:
    cv2 = pytest.importorskip("cv2")
    # OpenCV reads a folder of pictures as a video.
    for number in range(6):
        cv2.imwrite(str(tmp_path / f"{number:03}.png"), picture(seed=number))
    with Engine(server.url):
        out = run(server, PROGRAMS[0], str(tmp_path / "%03d.png"))
        assert out == "6 frames sent\n"
        lines = run(server, PROGRAMS[2]).splitlines()
    assert len(lines) == 12
    assert re.fullmatch(r"cam1 cam1-\S+ 160 120 \d+", lines[0])
    assert lines[1].startswith(("free_flow", "low", "medium", "high"))


def test_send_through_a_ring(server: Server, ring_folder: pathlib.Path) -> None:
    with Engine(server.url, RING__DIR=str(ring_folder)):
        out = run(server, PROGRAMS[1], RUNTIME_DIRECTORY=str(ring_folder))
    assert out == f"{100 * 1080 * 1920 * 3} bytes of pixels, none of them through Redis\n"
    assert server.client.xlen("camera_frames") == 100
    assert (ring_folder / "cam1.ring").exists()


def test_asyncio(server: Server) -> None:
    with Engine(server.url):
        lines = run(server, PROGRAMS[3]).splitlines()
    assert {line.split()[0] for line in lines} == {f"cam{number}" for number in range(10)}
    assert all(float(line.split()[1]) > 0 for line in lines)


def rights(*rows: str) -> list[str]:
    """The commands in those rows of the rights table that begin with one of `rows`."""
    begins = tuple(f"| {row}" for row in rows)
    table = README.partition("## Rights on Redis")[2].replace("\\|", "|").splitlines()
    lines = [line for line in table if line.startswith(begins)]
    assert len(lines) == len(rows)
    return [right for line in lines for right in re.findall(r"`(\+[a-z|-]+)`", line)]


def test_the_rights_are_enough(server: Server, ring_folder: pathlib.Path) -> None:
    def account(name: str, *rows: str) -> str:
        commands = rights(*rows)
        server.client.acl_setuser(
            name, enabled=True, passwords=["+p"], keys=["*"], commands=["-@all", *commands], reset=True
        )
        return server.url.replace("://", f"://{name}:p@")

    image = picture(8, 8)
    with framepress.Producer(account("p1", "`Producer` |")) as producer:
        producer.connect()
        producer.send(image, "cam")
    url = account("p2", "`Producer` |", "with `max_waiting`")
    with framepress.Producer(url, max_waiting=1, full="oldest") as producer:
        for _ in range(3):
            producer.send(image, "cam")
        assert producer.counts.dropped_oldest >= 2
    ring = framepress.Ring("r", slots=2, directory=ring_folder, reuse="lossless")
    url = account("p3", "`Producer` |", "with a lossless ring")
    with framepress.Producer(url, ring=ring, full="newest") as producer:
        for _ in range(3):
            producer.send(image, "cam")
        assert producer.counts.dropped_newest == 1
    for rows in (["`Consumer`"], ["`Consumer`", "dead letters in one step"]):
        server.client.delete("processed_frames", "processed_frames:dlq")
        server.client.xadd("processed_frames", {"data": b"\xff"})
        server.client.xadd("processed_frames", {"data": b""})
        url = account("c", *rows)
        with framepress.Consumer(url, group="g", block_ms=50, idle_timeout=0.3) as results:
            assert [result.camera_id for result in results] == [""]
            assert results.counts.dead_lettered == 1
        assert server.client.xlen("processed_frames:dlq") == 1
        assert server.client.xinfo_consumers("processed_frames", "g") == []
    for name in ("p1", "p2", "p3", "c"):
        server.client.acl_deluser(name)


def test_the_old_code(server: Server) -> None:
    with Engine(server.url) as engine:
        program = PROGRAMS[4].replace("redis://localhost:6379/0", server.url)
        out = run(server, program, STATS__ADDR=f"127.0.0.1:{engine.stats_port}").splitlines()
        assert re.fullmatch(r"\d+-\d+", out[0])
        assert float(out[1]) >= 0
        assert out[2] in ("healthy", "unhealthy", "unavailable")
        with framepress.Consumer(server.url, group="g", idle_timeout=30) as results:
            assert next(results).frame_id == "frame_1"
            assert results._current is not None
            assert np.asarray(results._current.image).shape == (640, 480, 3)
