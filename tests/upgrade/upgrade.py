"""upgrade.py OLD NEW CONFIG: tests upgrade and rollback. The new program takes over streams, pending
entries, dead letters and the configuration of an old one that was killed at work. Then the old one takes
over from the new one, as an operator needs it to roll back.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))

import interop  # noqa: E402
from interop import check, database, generated, wait_for  # noqa: E402

GROUP = "stream_processor"
CAMERAS = 5
FRAMES = 300


class Program:
    """`framepress run` with a configuration file; the end of the block kills it unless it has stopped."""

    def __init__(self, path, config, **settings):
        environment = {**os.environ, "REDIS_QUEUE__BLOCK_TIME_MS": "100", "STATS__ADDR": "null", **settings}
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen([path, "run", "--config", config], env=environment, stderr=self.log)

    def __enter__(self):
        return self

    def stop(self):
        self.process.terminate()
        code = self.process.wait(60)
        self.log.seek(0)
        check("the engine stops in order", code == 0, self.log.read().decode()[-2000:])

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def run(*command, **environment):
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
    return done.returncode, done.stdout, done.stderr


def send(client, pb, prefix, count):
    pixels = interop.picture(7)
    for number in range(count):
        frame = pb.ProcessedFrame(
            frame_id=f"{prefix}-{number}", camera_id=f"cam-{number % CAMERAS}", timestamp=1.7e9 + number
        )
        image = frame.original_image
        image.compressed_data, image.compression_format = pixels.tobytes(), "raw"
        image.width, image.height, image.channels = interop.WIDTH, interop.HEIGHT, 3
        client.xadd("camera_frames", {"data": frame.SerializeToString()})


def results(client, pb):
    found = []
    for _, fields in client.xrange("processed_frames"):
        frame = pb.ProcessedFrame()
        frame.ParseFromString(fields[b"data"])
        found.append(frame)
    return found


def pending(client):
    return client.xpending("camera_frames", GROUP)["pending"]


def takeover(client, pb, first, second, config, url, prefix):
    """`first` is killed while entries are pending. `second` finishes all of them, in order, and each once
    unless only "at least once" was promised."""
    is_exact = os.environ.get("REDIS_QUEUE__DELIVERY") != "at_least_once"
    before = client.xlen("processed_frames")
    with Program(first, config, REDIS_QUEUE__URL=url) as engine:
        # The engine must be processing frames before the test kills it.
        send(client, pb, f"{prefix}-warm", CAMERAS)
        wait_for(f"{prefix}: it works", lambda: client.xlen("processed_frames") == before + CAMERAS)
        send(client, pb, prefix, FRAMES)
        limit = time.monotonic() + 60
        while pending(client) == 0 and time.monotonic() < limit:
            pass
        engine.process.kill()
        engine.process.wait()
    left = pending(client)
    check(f"{prefix}: entries were pending at its end", left > 0, left)
    with Program(second, config, REDIS_QUEUE__URL=url) as engine:
        all_of_it = before + CAMERAS + FRAMES
        wait_for(f"{prefix}: all results", lambda: client.xlen("processed_frames") >= all_of_it)
        wait_for(f"{prefix}: nothing pending", lambda: pending(client) == 0)
        time.sleep(0.5)
        engine.stop()
    mine = [
        frame
        for frame in results(client, pb)
        if frame.frame_id.startswith(f"{prefix}-") and "warm" not in frame.frame_id
    ]
    names = [frame.frame_id for frame in mine]
    if not is_exact:
        # The first result of each.
        mine = list({frame.frame_id: frame for frame in reversed(mine)}.values())[::-1]
    found, wanted = [frame.frame_id for frame in mine], [f"{prefix}-{number}" for number in range(FRAMES)]
    check(f"{prefix}: each frame once", sorted(found) == sorted(wanted), len(found))
    for camera in range(CAMERAS) if is_exact else ():
        own = [frame.frame_id for frame in mine if frame.camera_id == f"cam-{camera}"]
        numbers = [int(name.rsplit("-", 1)[1]) for name in own]
        check(f"{prefix}: camera {camera} is in order", numbers == sorted(numbers), numbers[:10])
    print(f"{prefix}: {left} entries pending at the kill, {len(names)} results of {FRAMES}")


def dead_letters(client, pb, old, new, config, url):
    """The new version lists, shows, replays and purges dead letters of the old one."""
    with Program(old, config, REDIS_QUEUE__URL=url, LIMITS__MAX_PIXELS="1000") as engine:
        send(client, pb, "too-large", 3)
        client.xadd("camera_frames", {"data": b'{"frame_id": "broken', "camera_id": "cam-0"})
        wait_for("the old dead letters", lambda: client.xlen("camera_frames:dlq") == 4)
        engine.stop()
    common = ("--config", config, "--redis-url", url)
    code, out, err = run(new, "dlq", "list", *common)
    check("dlq list shows the old ones", code == 0 and out.count("too_large") == 3, out + err)
    ids = [name.decode() for name, _ in client.xrange("camera_frames:dlq")]
    code, out, err = run(new, "dlq", "show", ids[0], *common)
    check("dlq show tells why", code == 0 and "too_large" in out, out + err)
    before = client.xlen("processed_frames")
    for name in ids[:3]:
        code, out, err = run(new, "dlq", "replay", name, *common)
        check("dlq replay takes it", code == 0, out + err)
    with Program(new, config, REDIS_QUEUE__URL=url) as engine:
        wait_for("replayed frames have results", lambda: client.xlen("processed_frames") == before + 3)
        engine.stop()
    names = {frame.frame_id for frame in results(client, pb)}
    check("they are the old ones", {f"too-large-{n}" for n in range(3)} <= names)
    check("the broken one is left", client.xlen("camera_frames:dlq") == 1, client.xlen("camera_frames:dlq"))
    code, out, err = run(new, "dlq", "purge", "--all", "--yes", *common)
    check("dlq purge", code == 0 and client.xlen("camera_frames:dlq") == 0, out + err)


def main():
    old, new, config = (str(pathlib.Path(name).resolve()) for name in sys.argv[1:4])
    with tempfile.TemporaryDirectory() as folder:
        pb = generated(folder)
        for settings in (
            {},
            {"REDIS_QUEUE__RETENTION": "delete"},
            {"REDIS_QUEUE__DELIVERY": "at_least_once"},
        ):
            os.environ.update(settings)
            name = "-".join(settings.values()) or "keep"
            with database() as (client, port):
                url = f"redis://127.0.0.1:{port}/0"
                code, out, err = run(new, "check", "--config", config, "--redis-url", url, "--json")
                report = json.loads(out or "{}")
                check("the old configuration is valid", report.get("configuration_faults") == [], out + err)
                if not settings:
                    dead_letters(client, pb, old, new, config, url)
                takeover(client, pb, old, new, config, url, f"{name}-up")
                takeover(client, pb, new, old, config, url, f"{name}-back")
                takeover(client, pb, old, new, config, url, f"{name}-again")
            for key in settings:
                del os.environ[key]
    print(f"upgrade: {interop.passed} passed, {len(interop.failures)} failed")
    sys.exit(1 if interop.failures else 0)


main()
