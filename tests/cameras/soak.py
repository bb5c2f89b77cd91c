"""Cameras that fail at random for a given time: `soak.py --minutes 30 --cameras 8`.

Each minute some of the cameras stall, vanish and come back, or change their rate and size. After each
fault, frames must arrive again within the bound. No frame may ever be older than allowed. At the end, no
process, descriptor or memory may be left over. The last line is the result, as JSON; exit code 1 means
that a bound was exceeded.
"""

import argparse
import json
import os
import pathlib
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Camera:
    """A camera with faults on command."""

    def __init__(self, codec):
        self.codec, self.port = codec, free_port()
        self.start()

    def start(self):
        command = ["/usr/bin/python3", str(HERE / "camera.py"), "--port", str(self.port)]
        command += ["--codec", self.codec, "--fps", "10"]
        self.child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self.child.stdout.readline().startswith(b"ready"), "GStreamer is needed"

    def tell(self, what):
        self.child.stdin.write(what.encode() + b"\n")
        self.child.stdin.flush()

    def stop(self):
        self.child.kill()
        self.child.wait()


def children_of(pid):
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            fields = open(f"/proc/{name}/stat").read().rsplit(") ", 1)[1].split()
        except (OSError, IndexError):
            continue
        if fields[1] == str(pid):
            found.append((int(name), fields[0]))
    return found


def memory_kb(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--cameras", type=int, default=8)
    parser.add_argument("--bin", default="target/debug/framepress")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bound", type=float, default=15, help="seconds until frames come again")
    options = parser.parse_args()
    dice = random.Random(options.seed)
    folder = tempfile.mkdtemp(prefix="framepress-soak-")
    redis_port, page = free_port(), free_port()
    redis = subprocess.Popen(
        ["redis-server", "--port", str(redis_port), "--save", "", "--dir", folder],
        stdout=subprocess.DEVNULL,
    )
    codecs = ["h264", "mjpeg"]
    cameras = [Camera(codecs[index % len(codecs)]) for index in range(options.cameras)]
    lines = "\n".join(
        f"  - {{id: cam{index}, source: 'rtsp://127.0.0.1:{camera.port}/cam'}}"
        for index, camera in enumerate(cameras)
    )
    config = pathlib.Path(folder) / "cameras.yaml"
    config.write_text(
        f"redis_queue: {{url: 'redis://127.0.0.1:{redis_port}'}}\nstats: {{addr: null}}\n"
        f"ingest:\n  stats: {{addr: '127.0.0.1:{page}'}}\n"
        "  defaults: {fps: 5, no_frame_ms: 3000, open_timeout_ms: 6000, backoff_ms: [300, 5000]}\n"
        f"cameras:\n{lines}\n"
    )
    log = open(pathlib.Path(folder) / "log", "w")
    ingest = subprocess.Popen(
        [options.bin, "ingest", "--config", str(config)], stdout=log, stderr=log
    )

    def states():
        with urllib.request.urlopen(f"http://127.0.0.1:{page}/api/v1/cameras", timeout=5) as got:
            return json.load(got)

    def fresh(index, since, limit):
        until = time.time() + limit
        while time.time() < until:
            try:
                last = states()["cameras"][index]["last_frame"] or 0
                if last > since:
                    return time.time() - since
            except OSError:
                pass
            time.sleep(0.1)
        return None

    faults, recoveries, broken = 0, [], []
    began = time.time()
    for index in range(len(cameras)):
        if fresh(index, began, 30) is None:
            broken.append(f"cam{index} never came")
    time.sleep(3)
    first = {"memory_kb": memory_kb(ingest.pid), "descriptors": len(os.listdir(f"/proc/{ingest.pid}/fd"))}
    while time.time() - began < options.minutes * 60:
        index = dice.randrange(len(cameras))
        camera, what = cameras[index], dice.choice(["stall", "vanish", "rate", "size", "redis"])
        if what == "stall":
            camera.tell("stall")
            time.sleep(dice.uniform(1, 8))
            camera.tell("resume")
        elif what == "vanish":
            camera.stop()
            time.sleep(dice.uniform(0.5, 8))
            camera.start()
        elif what == "rate":
            camera.tell(f"fps {dice.choice([2, 5, 15, 25])}")
        elif what == "size" and camera.codec == "mjpeg":
            camera.tell(f"size {dice.choice(['320x240', '640x480', '160x128'])}")
        elif what == "redis":
            redis.send_signal(19)
            time.sleep(dice.uniform(0.5, 3))
            redis.send_signal(18)
        faults += 1
        took = fresh(index, time.time(), options.bound)
        if took is None:
            broken.append(f"after {what}: cam{index} is not back")
        else:
            recoveries.append((took, what))
        if zombies := [pid for pid, state in children_of(ingest.pid) if state == "Z"]:
            time.sleep(0.5)
            if set(zombies) & {pid for pid, state in children_of(ingest.pid) if state == "Z"}:
                broken.append("a zombie")
        time.sleep(dice.uniform(0, 2))
    time.sleep(8)
    text = urllib.request.urlopen(f"http://127.0.0.1:{page}/metrics", timeout=5).read().decode()
    ages = [line for line in text.splitlines() if "frame_age_seconds_bucket" in line]
    total = int(ages[-1].split()[-1])
    within = {line.split('"')[1]: int(line.split()[-1]) / max(total, 1) for line in ages}
    last = {"memory_kb": memory_kb(ingest.pid), "descriptors": len(os.listdir(f"/proc/{ingest.pid}/fd"))}
    children = len(children_of(ingest.pid))
    if children > len(cameras):
        broken.append(f"{children} children of {len(cameras)} cameras")
    if last["descriptors"] > first["descriptors"] + 8:
        broken.append(f"descriptors {first} {last}")
    if last["memory_kb"] > first["memory_kb"] * 1.5 + 30_000:
        broken.append(f"memory {first} {last}")
    ingest.terminate()
    ended = ingest.wait(30)
    if ended != 0:
        broken.append(f"it ended with {ended}")
    for camera in cameras:
        camera.stop()
    redis.terminate()
    redis.wait()
    worst = max(recoveries, default=(0, ""))
    print(json.dumps({
        "minutes": round((time.time() - began) / 60, 1), "cameras": len(cameras), "faults": faults,
        "worst_recovery_s": round(worst[0], 1), "after": worst[1], "frames": total,
        "share_within": {bound: round(share, 4) for bound, share in within.items()},
        "first": first, "last": last, "broken": broken,
    }))
    sys.exit(bool(broken))


main()
