"""Frames in a ring, read by the real engine."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest
from conftest import Engine, Server, picture, wait_for

import framepress
from framepress import Producer, Ring


def engine(server: Server, folder: pathlib.Path, **settings: str) -> Engine:
    """Raw pixels out, so that they can be compared one by one."""
    return Engine(
        server.url,
        RING__DIR=str(folder),
        REDIS_QUEUE__ENABLE_COMPRESSION="false",
        **settings,
    )


def results(server: Server) -> dict[str, Any]:
    """The results so far, by frame."""
    frames = {}
    for _, fields in server.client.xrange("processed_frames"):
        frames[fields[b"frame_id"].decode()] = fields
    return frames


def images(server: Server, count: int) -> dict[str, Any]:
    with framepress.Consumer(server.url, group="g", idle_timeout=30) as consumer:
        found = {}
        for result in consumer:
            found[result.frame_id] = np.array(result.image)
            if len(found) == count:
                return found
    raise AssertionError(f"{len(found)} of {count} results")


@pytest.mark.parametrize("checksum", [True, False])
def test_the_pixels_arrive(server: Server, ring_folder: pathlib.Path, checksum: bool) -> None:
    pictures = {f"f{number}": picture(seed=number) for number in range(6)}
    ring = Ring("cam", slots=8, directory=ring_folder, checksum=checksum)
    with engine(server, ring_folder), Producer(server.url, ring=ring) as producer:
        for name, pixels in pictures.items():
            layout = "rgb24" if int(name[1:]) % 2 else "bgr24"
            sent = pixels if layout == "rgb24" else pixels[:, :, ::-1]
            producer.send(sent, "cam", frame_id=name, layout=layout)
        found = images(server, len(pictures))
    for name, pixels in pictures.items():
        assert np.array_equal(found[name][:, :, ::-1], pixels), name  # images are BGR, as for OpenCV


def test_what_was_overwritten_is_lost_and_no_other_picture_is_shown(
    server: Server, ring_folder: pathlib.Path
) -> None:
    ring = Ring("cam", slots=2, directory=ring_folder, reuse="freshest")
    with Producer(server.url, ring=ring) as producer:
        for number in range(5):
            producer.send(np.full((48, 64, 3), 40 * number, np.uint8), "cam", frame_id=f"f{number}")
        with engine(server, ring_folder):
            wait_for("the last frames", lambda: len(results(server)) == 2)
    assert sorted(results(server)) == ["f3", "f4"]
    assert server.client.xpending("camera_frames", "stream_processor")["pending"] == 0


def test_a_lossless_ring_loses_nothing_while_engines_are_killed(
    server: Server, ring_folder: pathlib.Path
) -> None:
    settings = {"REDIS_QUEUE__RETENTION": "delete", "REDIS_QUEUE__CONSUMER_NAME": "engine"}
    ring = Ring("cam", slots=4, directory=ring_folder, reuse="lossless")
    sent = 0
    with Producer(server.url, ring=ring) as producer:
        for _ in range(3):
            killed = engine(server, ring_folder, **settings)
            for _ in range(40):
                producer.send(np.full((48, 64, 3), sent % 251, np.uint8), "cam", frame_id=f"f{sent}")
                sent += 1
            killed.process.kill()
            killed.process.wait()
            killed.log.close()
        with engine(server, ring_folder, **settings):
            wait_for("every frame has ended", lambda: server.client.xlen("camera_frames") == 0)
    assert server.client.xlen("processed_frames") == sent
    found = images(server, sent)
    assert all((found[f"f{number}"] == number % 251).all() for number in range(sent))


def test_a_ring_of_a_producer_that_is_gone_is_read_until_another_takes_its_place(
    server: Server, ring_folder: pathlib.Path
) -> None:
    def send(name: str) -> None:
        ring = Ring("cam", slots=2, directory=ring_folder)
        with Producer(server.url, ring=ring) as producer:
            producer.send(picture(8, 8), "cam", frame_id=name)

    send("old")
    with engine(server, ring_folder):
        wait_for("the frame of the first", lambda: "old" in results(server))
    send("lost")
    send("new")
    with engine(server, ring_folder):
        wait_for("the frame of the third", lambda: "new" in results(server))
        wait_for("a dead letter", lambda: server.client.xlen("camera_frames:dlq") == 1)
    letter = server.client.xrange("camera_frames:dlq")[0][1]
    assert (letter[b"frame_id"], letter[b"reason"]) == (b"lost", b"ring_gone")
