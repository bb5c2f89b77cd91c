"""Images: every layout through the engine and back, and the refused ones."""

from __future__ import annotations

import io
import itertools
from typing import Any

import numpy as np
import pytest
from conftest import Engine, Server, picture
from PIL import Image as Pillow

import framepress
from framepress._picture import LAYOUTS, picture_of

#: Mean absolute difference of the samples; in lossless output only YUV input is rounded.
DIFFERENCE_MAX = 4.0
SIZES = ((120, 160), (37, 53))


def planes_of(rgb: Any, full: bool = False) -> tuple[Any, Any, Any]:
    """BT.601 planes, chroma averaged over 2 x 2 and odd sides rounded up."""
    height, width = rgb.shape[:2]
    padded = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge").astype(float)
    r, g, b = padded[..., 0], padded[..., 1], padded[..., 2]
    y = 0.299 * r + 0.587 * g + 0.114 * b
    u, v = (b - y) / 1.772, (r - y) / 1.402
    if not full:
        y, u, v = 16 + y * 219 / 255, u * 224 / 255, v * 224 / 255

    def halved(plane: Any) -> Any:
        rows, columns = plane.shape
        return plane.reshape(rows // 2, 2, columns // 2, 2).mean(axis=(1, 3))

    def samples(plane: Any) -> Any:
        return np.clip(np.rint(plane), 0, 255).astype(np.uint8)

    return samples(y)[:height, :width], samples(halved(u) + 128), samples(halved(v) + 128)


def in_layout(rgb: Any, layout: str) -> Any:
    height, width = rgb.shape[:2]
    if layout in ("rgb24", "bgr24"):
        return rgb if layout == "rgb24" else rgb[:, :, ::-1]
    if layout in ("rgba", "bgra"):
        alpha = np.full((height, width, 1), 77, np.uint8)
        return np.concatenate([rgb if layout == "rgba" else rgb[:, :, ::-1], alpha], axis=2)
    y, u, v = planes_of(rgb, full=layout == "yuvj420p")
    if layout in ("yuv420p", "yuvj420p"):
        return y, u, v
    if layout == "nv12":
        return y, np.stack([u, v], axis=-1)
    assert layout == "yuyv422"
    out = np.empty((height, width, 2), np.uint8)
    out[:, :, 0] = y
    columns = np.arange(width) // 2
    rows = np.arange(height) // 2
    out[:, :, 1] = np.where(np.arange(width) % 2 == 0, u[rows][:, columns], v[rows][:, columns])
    return out


def file_of(rgb: Any, kind: str) -> bytes:
    out = io.BytesIO()
    Pillow.fromarray(rgb).save(out, kind, **({"quality": 95} if kind != "PNG" else {}))
    return out.getvalue()


def inputs() -> Any:
    """Yields name, arguments of `send` and the original RGB picture."""
    for number, (layout, size) in enumerate(itertools.product(LAYOUTS, SIZES)):
        height, width = size
        if layout == "gray":
            gray = picture(height, width, number, gray=True)
            yield f"gray-{width}", gray, {"layout": "gray"}, gray
            continue
        if layout == "yuyv422":
            width += width % 2
        rgb = picture(height, width, number)
        yield f"{layout}-{width}", in_layout(rgb, layout), {"layout": layout}, rgb
    rgb = picture(64, 96, 50)
    yield "default-bgr", rgb[:, :, ::-1], {}, rgb
    y, u, v = planes_of(rgb)
    yield "default-planes", (y, u, v), {}, rgb
    yield "default-nv12", [y, np.stack([u, v], axis=-1)], {}, rgb
    stacked = np.concatenate([y.ravel(), u.ravel(), v.ravel()]).reshape(96, 96)
    yield "one-array", stacked, {"layout": "yuv420p"}, rgb
    yield "range", (y, u, v), {"layout": "yuvj420p", "color_range": "limited"}, rgb
    gray = picture(64, 96, 51, gray=True)
    yield "gray-hw1", gray[:, :, None], {}, gray
    # Every memory order: a strided view, a part of a larger array, column-major, read-only.
    large = np.repeat(np.repeat(rgb, 2, axis=0), 3, axis=1)
    yield "steps", large[::2, ::3], {"layout": "rgb24"}, rgb
    yield "part", np.pad(rgb, ((3, 5), (7, 2), (0, 0)))[3:-5, 7:-2], {"layout": "rgb24"}, rgb
    yield "columns", np.asfortranarray(rgb), {"layout": "rgb24"}, rgb
    yield "upside-down", rgb[::-1], {"layout": "rgb24"}, rgb[::-1]
    fixed = rgb.copy()
    fixed.setflags(write=False)
    yield "read-only", fixed, {"layout": "rgb24"}, rgb
    for number, kind in enumerate(("JPEG", "PNG", "WEBP")):
        rgb = picture(72, 88, 60 + number)
        data = file_of(rgb, kind)
        yield kind.lower(), data, {"quality": 95}, rgb
        yield f"{kind.lower()}-array", np.frombuffer(data, np.uint8), {}, rgb
        yield f"{kind.lower()}-column", np.frombuffer(data, np.uint8)[:, None], {}, rgb
        yield f"{kind.lower()}-view", memoryview(bytearray(data)), {}, rgb


@pytest.mark.parametrize("form", ["jpeg", "webp", "png", "raw"])
def test_every_layout_comes_back_in_every_format(server: Server, form: str) -> None:
    settings = {"REDIS_QUEUE__COMPRESSION_FORMAT": form}
    if form == "raw":
        settings = {"REDIS_QUEUE__ENABLE_COMPRESSION": "false"}
    sent = {}
    with (
        Engine(server.url, **settings),
        framepress.Producer(server.url) as producer,
        framepress.Consumer(
            server.url, group="g", layout="rgb24", block_ms=100, idle_timeout=30
        ) as consumer,
    ):
        for name, image, arguments, rgb in inputs():
            entry = producer.send(
                image, camera_id="cam", timestamp=1700000000.25, frame_id=name, **arguments
            )
            sent[name] = (entry, rgb)
        for _ in sent:
            result = next(consumer)
            entry, rgb = sent[result.frame_id]
            assert result.source_id == entry
            assert (result.camera_id, result.timestamp) == ("cam", 1700000000.25)
            assert result.stage == "OUTPUT"
            assert result.original.format == form
            got = result.image
            assert got.dtype == np.uint8
            assert got.shape == rgb.shape, result.frame_id
            apart = np.abs(got.astype(int) - rgb.astype(int)).mean()
            assert apart <= DIFFERENCE_MAX, f"{form}: {result.frame_id}: {apart:.2f}"
            is_exact = result.frame_id.startswith(
                ("rgb", "bgr", "gray", "png", "default-bgr", "steps", "part", "columns")
            )
            if form in ("png", "raw") and is_exact:
                assert apart == 0, result.frame_id
            if form == "jpeg":
                assert result.jpeg[:2] == b"\xff\xd8"
            else:
                with pytest.raises(framepress.ImageError, match=form):
                    _ = result.jpeg
        assert server.client.xlen("camera_frames:dlq") == 0
        assert producer.counts.sent == len(sent)


def test_large_frames_arrive(server: Server) -> None:
    rgb = picture(2160, 3840)
    y, u, v = planes_of(rgb)
    with (
        Engine(server.url),
        framepress.Producer(server.url) as producer,
        framepress.Consumer(server.url, group="g", layout="rgb24", idle_timeout=60) as consumer,
    ):
        producer.send(rgb, "cam", layout="rgb24")
        producer.send((y, u, v), "cam")
        for _ in range(2):
            got = next(consumer).image
            assert got.shape == (2160, 3840, 3)
            assert np.abs(got.astype(np.int16) - rgb).mean() <= DIFFERENCE_MAX


good = picture(10, 12)
REFUSED = {
    "float": (good.astype(float), {}, "float64"),
    "int64": (good.astype(np.int64), {}, "int64"),
    "bool": (good > 3, {}, "bool"),
    "object": (np.array([[None]]), {}, "object"),
    "empty": (good[:0], {}, "no pixels"),
    "four-dimensions": (good[None], {}, "2 or 3 dimensions"),
    "two-channels": (good[:, :, :2], {}, "without a layout"),
    "five-channels": (np.zeros((4, 4, 5), np.uint8), {}, "without a layout"),
    "gray-as-bgr": (good[:, :, 0], {"layout": "bgr24"}, "H x W x 3"),
    "bgr-as-gray": (good, {"layout": "gray"}, "H x W"),
    "bgr-as-rgba": (good, {"layout": "rgba"}, "H x W x 4"),
    "unknown-layout": (good, {"layout": "yuv444p"}, "one of bgr24"),
    "unknown-range": (good, {"color_range": "tv"}, "limited"),
    "unknown-matrix": (good, {"color_matrix": "bt2020"}, "bt601"),
    "odd-yuyv": (np.zeros((4, 5, 2), np.uint8), {"layout": "yuyv422"}, "even"),
    "chroma-size": ((good[:, :, 0], good[:5, :5, 0], good[:5, :6, 0]), {}, "chroma of"),
    "one-plane": ((good[:, :, 0],), {}, "three"),
    "planes-of-color": ((good, good, good), {}, "luma"),
    "planes-as-bgr": ((good[:, :, 0],) * 3, {"layout": "bgr24"}, "one array"),
    "odd-stack": (np.zeros((16, 12), np.uint8), {"layout": "nv12"}, "3/2"),
    "text": ("image.jpg", {}, "NumPy array"),
    "none": (None, {}, "NumPy array"),
    "list": ([[1, 2], [3, 4]], {}, "NumPy array"),
    "other-file": (b"GIF89a......", {}, "no JPEG"),
    "no-bytes": (b"", {}, "no JPEG"),
    "bytes-with-layout": (b"\xff\xd8\xff\xe0", {"layout": "rgb24"}, "array"),
    "row": (np.zeros(12, np.uint8), {}, "neither an image"),
    "too-large": (np.broadcast_to(np.uint8(0), (60000, 60000, 3)), {}, "pixels"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_image_is_refused_with_a_reason(name: str, server: Server) -> None:
    image, arguments, reason = REFUSED[name]
    with framepress.Producer(server.url) as producer:
        with pytest.raises(framepress.ImageError, match=reason):
            producer.send(image, camera_id="cam", **arguments)
        assert producer.counts.refused == 1
        assert producer.counts.sent == 0
    assert not server.client.exists("camera_frames")


def test_ids_and_times_are_checked(server: Server) -> None:
    with framepress.Producer(server.url, max_payload_bytes=100) as producer:
        for arguments in (
            {"camera_id": ""},
            {"camera_id": "c", "timestamp": float("nan")},
            {"camera_id": "c", "timestamp": "yesterday"},
            {"camera_id": "c", "fields": {"data": b"other"}},
        ):
            with pytest.raises(ValueError):
                producer.send(good[:2, :2], **arguments)
        with pytest.raises(TypeError):
            producer.send(good[:2, :2], "c", frame_id=7)  # type: ignore[arg-type]
        with pytest.raises(framepress.ImageError, match="max_payload_bytes"):
            producer.send(good, "c")
        assert producer.counts.refused == 6
    assert not server.client.exists("camera_frames")


def test_pixels_are_not_copied_on_their_way() -> None:
    rgb = picture()
    (chunk,) = picture_of(rgb).chunks()
    assert np.shares_memory(np.frombuffer(chunk, np.uint8), rgb)
    data = bytearray(file_of(rgb, "JPEG"))
    (chunk,) = picture_of(data).chunks()
    assert np.shares_memory(np.frombuffer(chunk, np.uint8), np.frombuffer(data, np.uint8))
