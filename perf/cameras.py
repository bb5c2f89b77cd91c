"""Cost of a camera, by size: the stream's bits, the decoder's CPU, the process' CPU, bytes sent.

The script encodes a recording as H.264 once for each size, and then serves it as a live MPEG-TS over HTTP
without encoding it again. `framepress ingest` reads it, as JPEG through Redis and as planes in a frame ring.
Figures are differences of its metrics and of /proc over some seconds.

Usage: python3 perf/cameras.py --video FILE [--bin target/release/framepress] [--seconds 20]
"""

import argparse
import http.server
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

FPS = 10
SIZES = ("640x360", "1280x720", "1920x1080", "2560x1440")
WARM_SECONDS = 6


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def coded(video: str, size: str, folder: pathlib.Path) -> pathlib.Path:
    """The recording in one size, with a key frame each second like a camera."""
    path = folder / f"{size}.ts"
    width, height = size.split("x")
    command = ["ffmpeg", "-v", "error", "-i", video, "-t", "20", "-r", str(FPS), "-an"]
    command += ["-vf", f"scale={width}:{height}", "-c:v", "libx264", "-preset", "veryfast"]
    command += ["-crf", "23", "-g", str(FPS), "-bf", "0", "-pix_fmt", "yuv420p", str(path)]
    subprocess.run(command, check=True)
    return path


class Camera:
    """Serves a file as a live stream to each client."""

    def __init__(self, path: pathlib.Path):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "video/mp2t")
                self.end_headers()
                command = ["ffmpeg", "-v", "error", "-re", "-stream_loop", "-1", "-i", str(path)]
                command += ["-c", "copy", "-f", "mpegts", "-"]
                with subprocess.Popen(command, stdout=subprocess.PIPE) as source:
                    assert source.stdout is not None
                    try:
                        while piece := source.stdout.read1(1 << 16):
                            self.wfile.write(piece)
                    except OSError:
                        pass
                    finally:
                        source.kill()

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/live.ts"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()


def metric(text: str, name: str) -> float:
    found = re.findall(rf"^{name}\{{[^}}]*\}} (\S+)$", text, re.MULTILINE)
    return sum(map(float, found))


def stat_of(pid: int) -> list[str]:
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()


def cpu_seconds(pid: int) -> float:
    return sum(map(int, stat_of(pid)[11:13])) / os.sysconf("SC_CLK_TCK")


def children_of(pid: int) -> list[int]:
    found = []
    for path in pathlib.Path("/proc").iterdir():
        try:
            if path.name.isdigit() and int(stat_of(int(path.name))[1]) == pid:
                found.append(int(path.name))
        except OSError:
            continue
    return found


def sample(port: int, pid: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    sent = re.search(r'^framepress_ingest_frames_total\{[^}]*outcome="sent"\} (\S+)$', text, re.MULTILINE)
    return {
        "frames": float(sent[1]) if sent else 0,
        "bytes": metric(text, "framepress_ingest_bytes_total"),
        # The metric includes a child only after its end.
        "child": sum(cpu_seconds(child) for child in children_of(pid)),
        "own": cpu_seconds(pid),
    }


def measure(options: argparse.Namespace, path: pathlib.Path, ring: int, redis: int) -> dict[str, float]:
    camera = Camera(path)
    port = free_port()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        config = pathlib.Path(folder) / "framepress.yaml"
        config.write_text(
            f"redis_queue: {{url: 'redis://127.0.0.1:{redis}/0'}}\n"
            f"ring: {{dir: {folder}/rings}}\n"
            f"ingest: {{stats: {{addr: '127.0.0.1:{port}'}}}}\n"
            f"cameras: [{{id: cam, source: '{camera.url}', ring: {ring}}}]\n"
        )
        command = [options.bin, "ingest", "--config", str(config), "--log-level", "error"]
        process = subprocess.Popen(command)
        try:
            time.sleep(WARM_SECONDS)
            first = sample(port, process.pid)
            time.sleep(options.seconds)
            last = sample(port, process.pid)
        finally:
            process.terminate()
            process.wait()
            camera.stop()
    found = {name: last[name] - first[name] for name in first}
    if found["frames"] < FPS:
        sys.exit(f"{path.stem}: only {found['frames']:.0f} frames came")
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--video", required=True)
    parser.add_argument("--bin", default="target/release/framepress")
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    redis = free_port()
    command = ["redis-server", "--port", str(redis), "--bind", "127.0.0.1", "--save", ""]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        with tempfile.TemporaryDirectory() as folder:
            print(
                "| size | stream, kbit/s | JPEG sent, kB a frame | decoder, process: ms a frame | in a ring: ms |"
            )
            print("| --- | --- | --- | --- | --- |")
            for size in SIZES:
                path = coded(options.video, size, pathlib.Path(folder))
                probe = [
                    "ffprobe",
                    "-v",
                    "error",
                    "-show_entries",
                    "format=bit_rate",
                    "-of",
                    "csv=p=0",
                    str(path),
                ]
                bits = float(subprocess.run(probe, check=True, capture_output=True, text=True).stdout)
                cells = []
                for ring in (0, 8):
                    found = measure(options, path, ring, redis)
                    frames = found["frames"]
                    if not ring:
                        sent = found["bytes"] / frames / 1000
                    cells.append(f"{1000 * found['child'] / frames:.1f}, {1000 * found['own'] / frames:.1f}")
                print(f"| {size} | {bits / 1000:.0f} | {sent:.1f} | {cells[0]} | {cells[1]} |", flush=True)
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
