"""The images that a producer accepts: arrays of pixels in every layout, and encoded files.

A `Picture` refers to the caller's memory. It copies nothing until the destination of the bytes is
known: a slot of a ring, or a socket.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Union

import numpy as np
import numpy.typing as npt

from ._pb import ImageData
from .errors import ImageError

__all__ = ["LAYOUTS", "Array", "Encoded", "Image", "Picture", "encoded_format", "picture_of"]

Array = npt.NDArray[np.uint8]
Encoded = Union[bytes, bytearray, memoryview]
Image = Union[npt.NDArray[Any], Encoded, Sequence[npt.NDArray[Any]]]

#: Layout -> samples per pixel in a packed layout; 0: planes.
LAYOUTS: dict[str, int] = {
    "bgr24": 3,
    "rgb24": 3,
    "bgra": 4,
    "rgba": 4,
    "gray": 1,
    "yuyv422": 2,
    "yuv420p": 0,
    "yuvj420p": 0,
    "nv12": 0,
}
_BY_CHANNELS = {1: "gray", 3: "bgr24", 4: "bgra"}
_RANGES = ("", "limited", "full")
_MATRICES = ("", "bt601", "bt709")
#: The engine's `limits.max_pixels`: 8K UHD.
PIXELS_MAX = 33_177_600


@dataclass(frozen=True)
class Picture:
    """One image, checked."""

    #: Its bytes, one plane after the other, each in any memory order.
    planes: tuple[Array, ...]
    #: All fields except the bytes.
    about: ImageData
    #: Bytes of all planes.
    size: int

    def chunks(self) -> list[memoryview]:
        """The bytes as contiguous pieces; a plane that is not contiguous is copied once."""
        planes = (np.ascontiguousarray(plane) for plane in self.planes)
        return [plane.data.cast("B") for plane in planes if plane.size]

    def copy_into(self, room: Array) -> None:
        """Writes the bytes to the beginning of `room`, with a single copy and no other memory."""
        at = 0
        for plane in self.planes:
            end = at + plane.size
            np.copyto(room[at:end].reshape(plane.shape), plane)
            at = end


def picture_of(
    image: Image,
    layout: str | None = None,
    color_range: str = "",
    color_matrix: str = "",
    quality: int = 0,
) -> Picture:
    """Checks an image and describes it.

    Raises:
        ImageError: The engine does not accept it. The message names shape and dtype.
    """
    if color_range not in _RANGES:
        raise ImageError(f"color_range {color_range!r}: one of 'limited' and 'full', or nothing")
    if color_matrix not in _MATRICES:
        raise ImageError(f"color_matrix {color_matrix!r}: one of 'bt601' and 'bt709', or nothing")
    if layout is not None and layout not in LAYOUTS:
        raise ImageError(f"layout {layout!r}: one of {', '.join(LAYOUTS)}")
    if isinstance(image, (bytes, bytearray, memoryview)):
        return _file(np.frombuffer(image, np.uint8), layout, quality)
    if isinstance(image, np.ndarray):
        _check_samples(image)
        is_list = image.ndim == 1 or (image.ndim == 2 and image.shape[1] == 1)
        # `cv2.imencode` returns a row or a column of bytes.
        if layout is None and is_list and encoded_format(image[:12].tobytes()):
            return _file(image.reshape(-1), layout, quality)
        if image.ndim == 1:
            raise ImageError(f"{_name(image)}: neither an image nor a JPEG, PNG or WebP file")
    picture = _planes(image, layout) if _is_planes(image, layout) else _packed(image, layout)
    picture.about.color_range = color_range
    picture.about.color_matrix = color_matrix
    return picture


def encoded_format(head: bytes) -> str:
    """The format of a file by its first 12 bytes; empty if the engine cannot read it."""
    if head[:3] == b"\xff\xd8\xff":
        return "jpeg"
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    return ""


def _file(data: Array, layout: str | None, quality: int) -> Picture:
    if layout is not None:
        raise ImageError(f"layout {layout!r} for bytes: pixels are sent as an array with a shape")
    found = encoded_format(data[:12].tobytes())
    if not found:
        head = data[:8].tobytes()
        raise ImageError(f"{data.size} bytes that begin with {head!r}: no JPEG, PNG or WebP file")
    about = ImageData(compression_format=found, quality=quality)
    return Picture((data,), about, int(data.size))


def _is_planes(image: Any, layout: str | None) -> bool:
    if layout is not None:
        return LAYOUTS[layout] == 0
    return not isinstance(image, np.ndarray)


def _packed(image: Any, layout: str | None) -> Picture:
    if not isinstance(image, np.ndarray):
        raise ImageError(f"layout {layout!r} is one array, not {type(image).__name__}")
    if image.ndim not in (2, 3):
        raise ImageError(f"{_name(image)}: an image has 2 or 3 dimensions")
    channels = 1 if image.ndim == 2 else int(image.shape[2])
    if layout is None:
        layout = _BY_CHANNELS.get(channels)
        if layout is None:
            raise ImageError(
                f"{_name(image)}: H x W, H x W x 1, H x W x 3 or H x W x 4 without a layout"
            )
    wanted = LAYOUTS[layout]
    if channels != wanted:
        expected = "H x W" if wanted == 1 else f"H x W x {wanted}"
        raise ImageError(f"{_name(image)}: layout {layout!r} is {expected}")
    height, width = int(image.shape[0]), int(image.shape[1])
    _check_size(image, width, height)
    if layout == "yuyv422" and width % 2:
        raise ImageError(f"{_name(image)}: layout 'yuyv422' has an even width")
    # Channels of the picture, not samples in memory.
    about = ImageData(
        compression_format=layout,
        width=width,
        height=height,
        channels=1 if layout == "gray" else 3,
    )
    return Picture((image,), about, int(image.size))


def _planes(image: Any, layout: str | None) -> Picture:
    if isinstance(image, np.ndarray):
        assert layout is not None
        return _stacked(image, layout)
    if not isinstance(image, (tuple, list)) or not all(isinstance(p, np.ndarray) for p in image):
        raise ImageError(
            f"{type(image).__name__}: an image is a NumPy array, a tuple of planes, or bytes"
        )
    for plane in image:
        _check_samples(plane)
    shapes = ", ".join(str(plane.shape) for plane in image)
    if layout is None:
        layout = {2: "nv12", 3: "yuv420p"}.get(len(image))
        if layout is None:
            raise ImageError(f"planes {shapes}: three (yuv420p) or two (nv12)")
    if not image or image[0].ndim != 2:
        raise ImageError(f"planes {shapes}: the first is luma, H x W")
    height, width = (int(side) for side in image[0].shape)
    _check_size(image[0], width, height)
    half = ((height + 1) // 2, (width + 1) // 2)
    if layout == "nv12":
        wanted: tuple[tuple[tuple[int, ...], ...], ...] = (((*half, 2), (half[0], 2 * half[1])),)
    else:
        wanted = ((half,), (half,))
    good = len(image) == 1 + len(wanted) and all(
        plane.shape in shapes_of for plane, shapes_of in zip(image[1:], wanted)
    )
    if not good:
        expected = ", ".join(str(shapes_of[0]) for shapes_of in wanted)
        raise ImageError(
            f"planes {shapes}: layout {layout!r} of {height} x {width} has chroma of {expected}"
        )
    return _of_planes(tuple(image), layout, width, height)


def _stacked(image: Array, layout: str) -> Picture:
    """All planes in one array of 3/2 H x W, as OpenCV stores them."""
    if image.ndim != 2 or image.shape[0] % 3 or image.shape[1] % 2:
        raise ImageError(
            f"{_name(image)}: layout {layout!r} in one array is 3/2 H x W, with H and W even; "
            "odd sizes are sent as a tuple of planes"
        )
    height, width = int(image.shape[0]) // 3 * 2, int(image.shape[1])
    _check_size(image, width, height)
    return _of_planes((image,), layout, width, height)


def _of_planes(planes: tuple[Array, ...], layout: str, width: int, height: int) -> Picture:
    about = ImageData(compression_format=layout, width=width, height=height, channels=3)
    return Picture(planes, about, sum(int(plane.size) for plane in planes))


def _check_samples(image: npt.NDArray[Any]) -> None:
    if image.dtype != np.uint8:
        raise ImageError(f"{_name(image)}: samples are uint8; convert with .astype(numpy.uint8)")
    if image.size == 0:
        raise ImageError(f"{_name(image)}: no pixels")


def _check_size(image: npt.NDArray[Any], width: int, height: int) -> None:
    if width * height > PIXELS_MAX:
        raise ImageError(f"{_name(image)}: more than {PIXELS_MAX} pixels")


def _name(image: npt.NDArray[Any]) -> str:
    return f"array of shape {image.shape} and dtype {image.dtype}"
