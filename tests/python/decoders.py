"""Pictures with a camera's own Huffman tables in independent decoders: libjpeg's djpeg, Pillow, OpenCV,
ffmpeg, GStreamer's jpegdec, Chromium. Each must decode the same pixels as with standard tables.

One engine for each value of jpeg_huffman gets the same frames, enough that tables are learnt. Every
picture of every result (frame, ML image, thumbnail) goes through every installed decoder. FRAMEPRESS_BIN
names the program under test, FRAMEPRESS_REDIS_SERVER another server than redis-server.
"""

import base64
import io
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import cv2
import numpy
from PIL import Image

import interop
from interop import check, generated, wait_for

FRAMES = 14
# Frames for decoders that start slowly; the last one comes after tables were learnt.
SHOWN = (0, 1, FRAMES - 1)
MODES = ("standard", "adaptive", "optimised")
# Name, width, height, channels. The first fills its ML image row by row, the second is scaled.
CAMERAS = (("fits", 640, 480, 3), ("scaled", 330, 250, 3), ("gray", 320, 240, 1))


def frame_of(number, width, height, channels):
    """A moving scene with sensor noise."""
    random = numpy.random.default_rng(number)
    y, x = numpy.mgrid[0:height, 0:width].astype(float)
    planes = []
    for channel in range(channels):
        plane = 120 + 70 * numpy.sin((x + 9 * number) / (17 + channel)) * numpy.cos(y / (23 - channel))
        left = (13 * number) % max(1, width - 60)
        plane[height // 3 : height // 2, left : left + 60] = 40 + 80 * channel
        planes.append(plane)
    pixels = numpy.stack(planes, axis=-1) + random.normal(0, 3.0, (height, width, 1))
    pixels = numpy.clip(pixels, 0, 255).astype(numpy.uint8)
    return pixels if channels == 3 else pixels[:, :, 0]


def entry(pb, name, number, width, height, channels):
    pixels = frame_of(number, width, height, channels)
    frame = pb.ProcessedFrame(frame_id=f"{name}-{number}", camera_id=name, timestamp=1.7e9 + number)
    image = frame.original_image
    image.compressed_data = pixels.tobytes()
    image.width, image.height, image.channels = width, height, channels
    image.compression_format = "raw"
    return {"data": frame.SerializeToString()}


def files_of(client, port, pb, mode):
    """Every JPEG by frame and kind, written by an engine in this mode."""
    client.flushall()
    settings = {
        "REDIS_QUEUE__JPEG_HUFFMAN": mode,
        "REDIS_QUEUE__COMPRESSION_QUALITY": "75",
        "ANALYSIS__ML_IMAGE": "true",
        "ANALYSIS__THUMBNAIL": "true",
    }
    before = {key: os.environ.get(key) for key in settings}
    os.environ.update(settings)
    sent = 0
    with interop.Engine(port, "jpeg"):
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.update({key: value})
        for number in range(FRAMES):
            for camera in CAMERAS:
                name, width, height, channels = camera
                client.xadd("camera_frames", entry(pb, name, number, width, height, channels))
                sent += 1
            # Tables are learnt after a frame; the next frame is sent when that is done.
            wait_for(f"{mode}: results", lambda: client.xlen("processed_frames") >= sent)
        results = [fields for _, fields in client.xrange("processed_frames")]
    files = {}
    for fields in results:
        frame = pb.ProcessedFrame()
        frame.ParseFromString(fields[b"data"])
        for kind in ("original_image", "processed_image", "thumbnail"):
            files[frame.frame_id, kind] = getattr(frame, kind).compressed_data
    return files


def by_pillow(data):
    opened = Image.open(io.BytesIO(data))
    opened.load()
    return opened.tobytes()


def by_opencv(data):
    return cv2.imdecode(numpy.frombuffer(data, numpy.uint8), cv2.IMREAD_UNCHANGED).tobytes()


def piped(*command):
    def run(data):
        done = subprocess.run(command, input=data, capture_output=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.decode(errors="replace")[-300:])
        return done.stdout

    return run


def by_gstreamer(data):
    with tempfile.TemporaryDirectory() as folder:
        source, target = pathlib.Path(folder, "in.jpg"), pathlib.Path(folder, "out.raw")
        source.write_bytes(data)
        parts = f"filesrc location={source} ! jpegdec ! filesink location={target}"
        done = subprocess.run(
            ["gst-launch-1.0", "-q", *parts.split()], capture_output=True, check=False
        )
        if done.returncode != 0 or not target.exists() or not target.stat().st_size:
            raise RuntimeError(done.stderr.decode(errors="replace")[-300:])
        return target.read_bytes()


def decoders():
    """Yields name, whether it starts a process for each picture, and decoder; reports missing ones."""
    yield "Pillow", False, by_pillow
    yield "OpenCV", False, by_opencv
    programs = (
        ("djpeg", "djpeg", piped("djpeg")),
        ("ffmpeg", "ffmpeg", piped(*"ffmpeg -v error -f mjpeg -i - -f rawvideo -".split())),
        ("GStreamer", "gst-launch-1.0", by_gstreamer),
    )
    for name, program, decode in programs:
        if shutil.which(program) is None:
            print(f"skipped: {name} decodes nothing, for {program} is not installed")
        else:
            yield name, True, decode


def compare(files):
    standard = files["standard"]
    for name, is_slow, decode in decoders():
        count = 0
        for key, plain in standard.items():
            frame, kind = key
            if is_slow and int(frame.rsplit("-", 1)[1]) not in SHOWN:
                continue
            try:
                want = decode(plain)
            except RuntimeError as error:
                check(f"{name}: {key}", False, error)
                continue
            for mode in MODES[1:]:
                try:
                    same = decode(files[mode][key]) == want
                except RuntimeError as error:
                    same = error
                check(f"{name}: {mode} {key}", same is True, same)
                count += 1
        check(f"{name} decoded something", count > 0)


SCRIPT = """
const [texts, done] = [arguments[0], arguments[1]];
Promise.all(texts.map(async (text) => {
  const image = new Image();
  image.src = 'data:image/jpeg;base64,' + text;
  await image.decode();
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [image.width, image.height];
  const context = canvas.getContext('2d');
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, image.width, image.height).data;
  let [sum, other] = [7, 11];
  for (const value of pixels) {
    sum = (Math.imul(sum, 31) + value) | 0;
    other = (Math.imul(other, 1000003) ^ value) | 0;
  }
  return [image.width, image.height, sum, other].join(' ');
})).then(done, (error) => done('' + error));
"""


def in_chromium(files):
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            print(f"skipped: Chromium decodes nothing, for {program} is not installed")
            return
    import dashboard

    with dashboard.browser() as driver:
        for key in files["standard"]:
            if int(key[0].rsplit("-", 1)[1]) not in SHOWN:
                continue
            texts = [base64.b64encode(files[mode][key]).decode() for mode in MODES]
            found = driver.execute_async_script(SCRIPT, texts)
            same = isinstance(found, list) and len(set(found)) == 1
            check(f"Chromium: {key}", same, found)


def sizes(files):
    """What it is for: from the second frame on, fewer bytes."""
    for name, *_ in CAMERAS:
        total = {
            mode: sum(len(files[mode][f"{name}-{number}", "original_image"]) for number in range(2, FRAMES))
            for mode in MODES
        }
        fewer = total["optimised"] < total["adaptive"] < total["standard"]
        check(f"{name}: fewer bytes", fewer, total)
        near = total["adaptive"] <= 1.03 * total["optimised"]
        check(f"{name}: almost as few as in two passes", near, total)


def main():
    if "FRAMEPRESS_BIN" not in os.environ:
        sys.exit("FRAMEPRESS_BIN names the program under test; `make python-test` sets it")
    with tempfile.TemporaryDirectory() as folder, interop.database() as (client, port):
        pb = generated(folder)
        files = {mode: files_of(client, port, pb, mode) for mode in MODES}
    compare(files)
    sizes(files)
    in_chromium(files)
    print(f"decoders: {interop.passed} passed, {len(interop.failures)} failed")
    sys.exit(1 if interop.failures else 0)


if __name__ == "__main__":
    main()
