"""Bytes and CPU of Pillow with the settings of the replaced system.

bytes.py FRAMES WIDTH HEIGHT COUNT QUALITY,...: FRAMES holds raw RGB. Writes JSON: for each format and
quality the bytes of every frame and the CPU seconds of all.
"""

import io
import json
import sys
import time

from PIL import Image


def coded(frames, kind, options):
    """Bytes of each frame, and CPU seconds for all."""
    sizes = []
    before = time.process_time()
    for frame in frames:
        out = io.BytesIO()
        frame.save(out, kind, **options)
        sizes.append(out.tell())
    return {"sizes": sizes, "cpu": time.process_time() - before}


def main():
    name, width, height, count, qualities = sys.argv[1:6]
    width, height, count = int(width), int(height), int(count)
    with open(name, "rb") as file:
        frames = [
            Image.frombytes("RGB", (width, height), file.read(3 * width * height))
            for _ in range(count)
        ]
    found = {}
    for quality in map(int, qualities.split(",")):
        found[f"jpeg {quality}"] = coded(frames, "JPEG", {"quality": quality, "optimize": True})
        few = frames[:: max(1, count // 6)]
        found[f"webp {quality}"] = coded(few, "WEBP", {"quality": quality, "method": 6})
    found["png"] = coded(frames[:: max(1, count // 3)], "PNG", {"optimize": True})
    print(json.dumps(found))


main()
