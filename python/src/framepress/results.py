"""Results of the engine as objects."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ._pb import ImageData, ProcessedFrame, ProcessingStage
from ._picture import Array, encoded_format
from .errors import ImageError

__all__ = ["Picture", "Quality", "Result", "Roi", "Traffic"]

_HINT = "pip install framepress[pillow] (or [opencv], or for JPEG [simplejpeg])"


@dataclass(frozen=True)
class Quality:
    """Figures of the picture; each lies between 0 and 1."""

    score: float
    blur: float
    brightness: float
    contrast: float
    noise: float


@dataclass(frozen=True)
class Traffic:
    """The traffic in the picture."""

    #: Share of the picture covered by vehicles, 0 to 1.
    vehicle_density: float
    #: `free_flow`, `low`, `medium` or `high`.
    congestion_level: str
    #: `foggy`, `overcast`, `clear` or `partly_cloudy`.
    weather_conditions: str
    #: `bright`, `normal`, `dim` or `dark`.
    lighting_conditions: str
    #: 0 to 1.
    motion_intensity: float


@dataclass(frozen=True)
class Roi:
    """The figures of one configured box; x, y, width and height are in pixels."""

    id: str
    x: int
    y: int
    width: int
    height: int
    density: float
    brightness: float
    congestion: str


@dataclass(frozen=True)
class Picture:
    """A picture as the engine stored it."""

    #: The file, or with format `raw` the samples: interleaved RGB, or gray.
    data: bytes = field(repr=False)
    #: `jpeg`, `png`, `webp` or `raw`.
    format: str
    #: Pixels.
    width: int
    #: Pixels.
    height: int
    #: 3, or 1 for gray.
    channels: int
    #: 1 to 100; 0 for lossless formats.
    quality: int

    def array(self, layout: str = "bgr24") -> Array:
        """Decodes the picture.

        Args:
            layout: `bgr24` (as OpenCV and `Producer.send` have it by default) or `rgb24`.

        Returns:
            uint8 of shape (height, width, 3), or (height, width) for a gray picture.

        Raises:
            ImageError: The bytes cannot be decoded, or no installed library does.
        """
        if layout not in ("bgr24", "rgb24"):
            raise ImageError(f"layout {layout!r}: bgr24 or rgb24")
        if self.format == "raw":
            return self._raw(layout)
        is_bgr = layout == "bgr24"
        for decode in (_simplejpeg, _opencv, _pillow):
            try:
                pixels = decode(self.data, self.channels == 1, is_bgr)
            except ImportError:
                continue
            except ImageError:
                raise
            except Exception as error:
                raise ImageError(f"a {self.format} of {len(self.data)} bytes: {error}") from error
            if pixels is not None:
                return pixels
        raise ImageError(f"nothing that decodes {self.format} is installed: {_HINT}")

    def _raw(self, layout: str) -> Array:
        shape = (self.height, self.width) + ((3,) if self.channels != 1 else ())
        try:
            pixels = np.frombuffer(self.data, np.uint8).reshape(shape)
        except ValueError as error:
            raise ImageError(f"{len(self.data)} raw bytes are not of shape {shape}") from error
        if layout == "bgr24" and self.channels != 1:
            return np.ascontiguousarray(pixels[:, :, ::-1])
        return pixels


@dataclass
class Result:
    """One entry of the output stream.

    Times of day are seconds since the Unix epoch.
    """

    #: The entry's id in the output stream.
    entry_id: str
    #: The output stream.
    stream: str
    #: Every field of the entry.
    fields: Mapping[bytes, bytes] = field(repr=False)
    #: The protobuf message.
    message: Any = field(repr=False)
    #: How often the entry has been handed out, this time included.
    deliveries: int
    #: The layout of `image`.
    layout: str = "bgr24"

    @classmethod
    def parse(
        cls,
        stream: str,
        entry_id: bytes,
        fields: Mapping[bytes, bytes],
        deliveries: int,
        layout: str,
    ) -> Result:
        """Decodes an entry.

        Raises:
            ValueError: Its field `data` is not a `ProcessedFrame`.
        """
        data = fields.get(b"data")
        if data is None:
            raise ValueError("the entry has no field data")
        try:
            message = ProcessedFrame.FromString(data)
        except Exception as error:
            raise ValueError(f"data is no ProcessedFrame: {error}") from error
        return cls(entry_id.decode(), stream, fields, message, deliveries, layout)

    @property
    def frame_id(self) -> str:
        return str(self.message.frame_id)

    @property
    def camera_id(self) -> str:
        return str(self.message.camera_id)

    @property
    def timestamp(self) -> float:
        """Capture time."""
        return float(self.message.timestamp)

    @property
    def received_timestamp(self) -> float:
        """When the engine read the frame."""
        return float(self.message.received_timestamp)

    @property
    def processed_timestamp(self) -> float:
        """When the result was ready."""
        return float(self.message.processed_timestamp)

    @property
    def processing_time_ms(self) -> float:
        """The time between the two, in milliseconds."""
        return float(self.message.processing_time_ms)

    @property
    def stage(self) -> str:
        """The processing stage, `OUTPUT`."""
        number = self.message.processing_stage
        try:
            return str(ProcessingStage.Name(number)).replace("PROCESSING_STAGE_", "")
        except ValueError:
            return str(number)

    @property
    def validation_passed(self) -> bool:
        """Whether the quality is at or above the threshold."""
        return bool(self.message.validation_passed)

    @property
    def source_hash(self) -> str:
        """XXH3-64 of the image bytes as received, 16 hex digits."""
        return str(self.message.source_hash)

    @property
    def version(self) -> str:
        return str(self.message.version)

    @property
    def source_id(self) -> str:
        """The id of the input entry."""
        return self.fields.get(b"source_id", b"").decode()

    @property
    def traceparent(self) -> str | None:
        value = self.fields.get(b"traceparent")
        return None if value is None else value.decode("utf-8", "replace")

    @cached_property
    def quality(self) -> Quality:
        q = self.message.quality_metrics
        return Quality(
            q.quality_score, q.blur_score, q.brightness_score, q.contrast_score, q.noise_level
        )

    @cached_property
    def traffic(self) -> Traffic:
        t = self.message.traffic_features
        return Traffic(
            t.vehicle_density,
            t.congestion_level,
            t.weather_conditions,
            t.lighting_conditions,
            t.motion_intensity,
        )

    @cached_property
    def rois(self) -> tuple[Roi, ...]:
        return tuple(
            Roi(r.roi_id, r.x, r.y, r.width, r.height, r.density, r.brightness, r.congestion)
            for r in self.message.roi_features
        )

    @cached_property
    def original(self) -> Picture:
        """The picture at its original size."""
        picture = self._picture("original_image")
        if picture is None:
            raise ImageError(f"the result {self.entry_id} has no picture")
        return picture

    @cached_property
    def processed(self) -> Picture | None:
        """640 x 640, letterboxed; `None` unless the engine makes it (`analysis.ml_image`)."""
        return self._picture("processed_image")

    @cached_property
    def thumbnail(self) -> Picture | None:
        """128 x 128; `None` unless the engine makes it (`analysis.thumbnail`)."""
        return self._picture("thumbnail")

    @cached_property
    def image(self) -> Array:
        """The decoded picture, made at the first access: see `Picture.array`.

        uint8 of shape (height, width, 3) in the consumer's `layout`, or (height, width) for gray.
        """
        return self.original.array(self.layout)

    @property
    def jpeg(self) -> bytes:
        """The picture as a JPEG file.

        Raises:
            ImageError: The engine writes another format; see `original`.
        """
        if self.original.format != "jpeg":
            raise ImageError(f"the engine wrote {self.original.format}, not jpeg: see original.data")
        return self.original.data

    def _picture(self, name: str) -> Picture | None:
        if not self.message.HasField(name):
            return None
        image: ImageData = getattr(self.message, name)
        return Picture(
            image.compressed_data,
            image.compression_format,
            image.width,
            image.height,
            image.channels,
            image.quality,
        )


def _simplejpeg(data: bytes, is_gray: bool, is_bgr: bool) -> Array | None:
    if encoded_format(data[:12]) != "jpeg":
        return None
    import simplejpeg

    space = "GRAY" if is_gray else "BGR" if is_bgr else "RGB"
    pixels: Array = simplejpeg.decode_jpeg(data, colorspace=space)
    return pixels[:, :, 0] if is_gray else pixels


def _opencv(data: bytes, is_gray: bool, is_bgr: bool) -> Array | None:
    import cv2

    flag = cv2.IMREAD_GRAYSCALE if is_gray else cv2.IMREAD_COLOR
    pixels: Any = cv2.imdecode(np.frombuffer(data, np.uint8), flag | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise ImageError(f"OpenCV does not decode these {len(data)} bytes")
    if is_gray or is_bgr:
        return np.asarray(pixels, np.uint8)
    return np.ascontiguousarray(pixels[:, :, ::-1])


def _pillow(data: bytes, is_gray: bool, is_bgr: bool) -> Array | None:
    import PIL.Image

    with PIL.Image.open(io.BytesIO(data)) as file:
        pixels: Array = np.asarray(file.convert("L" if is_gray else "RGB"))
    if is_gray or not is_bgr:
        return pixels
    return np.ascontiguousarray(pixels[:, :, ::-1])
