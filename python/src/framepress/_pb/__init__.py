"""The messages of proto/processed_frame.proto, for the protobuf that is installed.

The two modules are generated; see generate.py. Their messages are equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import google.protobuf

__all__ = ["ImageData", "ProcessedFrame", "ProcessedFrameBatch", "ProcessingStage", "schema"]

_MAJOR = int(google.protobuf.__version__.split(".")[0])

if TYPE_CHECKING or _MAJOR >= 6:
    from .v6 import processed_frame_pb2 as schema
else:
    from .v4 import processed_frame_pb2 as schema

ImageData = schema.ImageData
ProcessedFrame = schema.ProcessedFrame
ProcessedFrameBatch = schema.ProcessedFrameBatch
ProcessingStage = schema.ProcessingStage
