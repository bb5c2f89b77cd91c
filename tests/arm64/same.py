"""same.py X86 ARM64: both programs process the same frames, and every picture and figure of their results
must have the same bits.

Frames come as every kind of file and pixel layout, through Redis and through a frame ring, and as a video
by `ingest`. Results have every format. The second argument is usually a script that starts the program
under qemu.
"""

import collections
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))

import interop  # noqa: E402
from interop import check, database, generated, wait_for  # noqa: E402

# FFmpeg's names, and bytes per pixel.
LAYOUTS = {
    "rgb24": 3, "bgr24": 3, "rgba": 4, "bgra": 4, "gray": 1,
    "yuv420p": 1.5, "yuvj420p": 1.5, "nv12": 1.5, "yuyv422": 2,
}  # fmt: skip
# One that fits the ML image, one that is scaled, one wider than any vector.
SIZES = ((640, 480), (330, 250), (1288, 722))
VIDEO_FRAMES = 20


def entry(pb, camera, number, width, height, form, data, **more):
    frame = pb.ProcessedFrame(frame_id=f"{camera}-{number}", camera_id=camera, timestamp=1.7e9 + number)
    image = frame.original_image
    image.compressed_data = data
    image.width, image.height, image.compression_format = width, height, form
    image.channels = 1 if form == "gray" else 3
    for name, value in more.items():
        setattr(image, name, value)
    return {"data": frame.SerializeToString()}


def scene(number, count):
    """Slopes, a moving edge and sensor noise, as `count` bytes in rows of samples."""
    random = numpy.random.default_rng(number)
    samples = numpy.linspace(0, 9 + number, count)
    values = 120 + 90 * numpy.sin(samples) + random.normal(0, 6, count)
    values[count // 3 : count // 2] += 60
    return numpy.clip(values, 0, 255).astype(numpy.uint8).tobytes()


def entries(pb):
    for _, _, _, fields in interop.inputs(pb):
        yield fields
    for width, height in SIZES:
        for layout, share in LAYOUTS.items():
            for number, more in enumerate(({}, {"color_range": "limited", "color_matrix": "bt709"})):
                data = scene(number, int(width * height * share))
                yield entry(pb, f"{layout}-{width}", number, width, height, layout, data, **more)


def bits(pb, fields):
    """The frame's content without times, which always differ."""
    frame = pb.ProcessedFrame()
    frame.ParseFromString(fields[b"data"])
    for field in ("received_timestamp", "processed_timestamp", "processing_time_ms", "frame_id", "timestamp"):
        frame.ClearField(field)
    return frame.SerializeToString(deterministic=True)


def results(program, form, pb, folder):
    """The bits of every result, by camera and number."""
    os.environ["FRAMEPRESS_BIN"] = program
    settings = {
        "ANALYSIS__ML_IMAGE": "true",
        "ANALYSIS__THUMBNAIL": "true",
        "RING__DIR": folder,
        # Adaptive tables are learnt in the background, so it is random which frame uses them first.
        "REDIS_QUEUE__JPEG_HUFFMAN": "optimised",
        "REDIS_QUEUE__WEBP_METHOD": "2",
    }
    with database() as (client, port), interop.Engine(port, form, **settings):
        sent = [client.xadd("camera_frames", fields) for fields in entries(pb)]
        command = [
            program, "ingest", "--redis-url", f"redis://127.0.0.1:{port}/0", "--camera", "video",
            "--source", f"{folder}/video.mp4", "--limit", str(VIDEO_FRAMES), "--fps", "0", "--ring", str(VIDEO_FRAMES + 1),
        ]  # fmt: skip
        done = subprocess.run(
            command, env={**os.environ, "RING__DIR": folder}, capture_output=True, text=True
        )
        check(f"{form}: ingest ends in order", done.returncode == 0, done.stderr)
        expected = len(sent) + VIDEO_FRAMES
        wait_for(f"{form}: results", lambda: client.xlen("processed_frames") >= expected)
        dead = client.xrange("camera_frames:dlq")
        check(f"{form}: nothing is refused", not dead, dead[:1])
        found = [(fields[b"camera_id"], bits(pb, fields)) for _, fields in client.xrange("processed_frames")]
    # Cameras overtake each other; the frames of one camera do not.
    check(f"{form}: every frame has a result", len(found) == expected, f"{len(found)} of {expected}")
    numbers = collections.Counter()
    return {(camera, numbers.update([camera]) or numbers[camera]): one for camera, one in found}


def main():
    programs = [str(pathlib.Path(name).resolve()) for name in sys.argv[1:3]]
    with tempfile.TemporaryDirectory() as folder:
        pb = generated(folder)
        command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=10", "-frames:v",
                   str(VIDEO_FRAMES), "-pix_fmt", "yuv420p", f"{folder}/video.mp4"]  # fmt: skip
        subprocess.run(command, check=True)
        for form in ("jpeg", "webp", "png", "raw"):
            here, there = (results(program, form, pb, folder) for program in programs)
            for name, wanted in here.items():
                check(f"{form}: {name} has the same bits", there.get(name) == wanted)
            print(f"{form}: {len(here)} results compared")
    print(f"same bits: {interop.passed} passed, {len(interop.failures)} failed")
    sys.exit(1 if interop.failures else 0)


main()
