"""A camera for tests: an RTSP server whose pictures show the time at which they were made.

The picture holds the time, in milliseconds since the Unix epoch modulo 2**32, as 32 blocks in two rows:
white is one, the most significant bit comes first. Lines on standard input change the camera's behaviour:
`stall`, `resume`, `fps N`, `size WxH`, `drop` (every client), `quit`.
"""

import argparse
import sys
import threading
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

ENCODERS = {
    "h264": "x264enc tune=zerolatency speed-preset=ultrafast key-int-max={gop} bitrate=1500 "
    "! video/x-h264,profile=baseline ! rtph264pay name=pay0 pt=96 config-interval=1",
    "h264-bframes": "x264enc bframes=2 speed-preset=ultrafast key-int-max={gop} bitrate=1500 "
    "! rtph264pay name=pay0 pt=96 config-interval=1",
    "h265": "x265enc tune=zerolatency speed-preset=ultrafast key-int-max={gop} bitrate=1500 "
    "! rtph265pay name=pay0 pt=96 config-interval=1",
    "mjpeg": "jpegenc quality=90 ! rtpjpegpay name=pay0 pt=26",
}


def picture(width, height):
    """One I420 picture with the time drawn into it."""
    stamp = int(time.time() * 1000) & 0xFFFFFFFF
    block = width // 16
    rows = []
    for half in (stamp >> 16, stamp & 0xFFFF):
        row = b"".join((b"\xeb" if half >> (15 - bit) & 1 else b"\x10") * block for bit in range(16))
        rows.append(row.ljust(width, b"\x10") * block)
    rest = height - 2 * block
    band = bytes((40 + 150 * x // width) for x in range(width))
    luma = rows[0] + rows[1] + band * rest
    chroma = b"\x80" * (((width + 1) // 2) * ((height + 1) // 2))
    return luma + chroma + chroma


class Camera:
    """Picture settings, and the clients that get the pictures."""

    def __init__(self, options):
        self.fps, self.stalled = options.fps, False
        # The H.265 encoder needs a rate.
        self.rate = f"{round(options.fps)}/1" if options.codec == "h265" else "0/1"
        self.width, self.height = (int(side) for side in options.size.split("x"))
        self.sources, self.lock = [], threading.Lock()

    def caps(self):
        return Gst.Caps.from_string(
            f"video/x-raw,format=I420,width={self.width},height={self.height},framerate={self.rate}"
        )

    def add(self, _factory, media):
        source = media.get_element().get_child_by_name("source")
        source.set_property("caps", self.caps())
        self.sources = [*self.sources, source]
        media.connect("unprepared", lambda _: self.remove(source))

    def remove(self, source):
        self.sources = [other for other in self.sources if other is not source]

    def resize(self, size):
        with self.lock:
            self.width, self.height = (int(side) for side in size.split("x"))
        for source in self.sources:
            source.set_property("caps", self.caps())

    def film(self):
        due = time.monotonic()
        while True:
            due = max(due + 1 / self.fps, time.monotonic() - 0.5)
            time.sleep(max(0, due - time.monotonic()))
            if self.stalled:
                continue
            with self.lock:
                data = picture(self.width, self.height)
            # Spread the cameras over time.
            sources = self.sources
            for index, source in enumerate(sources):
                source.emit("push-buffer", Gst.Buffer.new_wrapped(data))
                if len(sources) > 8 and index % 10 == 9:
                    time.sleep(0.5 / self.fps / (len(sources) / 10 + 1))
                    data = picture(self.width, self.height)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", default="0")
    parser.add_argument("--codec", choices=ENCODERS, default="h264")
    parser.add_argument("--fps", type=float, default=10)
    parser.add_argument("--size", default="320x240")
    parser.add_argument("--gop", type=int, default=10)
    parser.add_argument("--transport", choices=["any", "tcp", "udp"], default="any")
    parser.add_argument("--auth", choices=["basic", "digest"])
    parser.add_argument("--account", default="user:password")
    parser.add_argument("--cameras", type=int, default=1)
    parser.add_argument("--audio", action="store_true")
    options = parser.parse_args()
    Gst.init(None)
    camera = Camera(options)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(options.port)
    server.props.backlog = 256
    # Opening one camera must not delay the others.
    pool = GstRtspServer.RTSPThreadPool()
    pool.set_max_threads(max(1, options.cameras))
    server.set_thread_pool(pool)
    launch = (
        "( appsrc name=source is-live=true do-timestamp=true format=time "
        "! videoconvert ! " + ENCODERS[options.codec].format(gop=options.gop)
    )
    if options.audio:
        launch += " audiotestsrc is-live=true ! alawenc ! rtppcmapay name=pay1 pt=8"
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(launch + " )")
    factory.set_shared(True)
    factory.set_latency(0)
    tcp, udp = GstRtsp.RTSPLowerTrans.TCP, GstRtsp.RTSPLowerTrans.UDP
    factory.set_protocols({"any": tcp | udp, "tcp": tcp, "udp": udp}[options.transport])
    if options.auth:
        auth = GstRtspServer.RTSPAuth()
        user, password = options.account.split(":", 1)
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "viewer")
        if options.auth == "digest":
            auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
            auth.add_digest(user, password, token)
        else:
            auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
        server.set_auth(auth)
        role = Gst.Structure.new_from_string(
            "viewer,media.factory.access=(boolean)true,media.factory.construct=(boolean)true"
        )
        factory.add_role_from_structure(role[0] if isinstance(role, tuple) else role)
    factory.connect("media-configure", camera.add)
    server.get_mount_points().add_factory("/cam", factory)
    for number in range(1, options.cameras):
        server.get_mount_points().add_factory(f"/cam{number}", factory)
    server.attach(None)
    loop = GLib.MainLoop()

    def obey():
        for line in sys.stdin:
            words = line.split()
            if words[0] == "stall":
                camera.stalled = True
            elif words[0] == "resume":
                camera.stalled = False
            elif words[0] == "fps":
                camera.fps = float(words[1])
            elif words[0] == "size":
                camera.resize(words[1])
            elif words[0] == "drop":
                keep = GstRtspServer.RTSPFilterResult.REMOVE
                GLib.idle_add(lambda: server.client_filter(lambda *_: keep) and False)
        loop.quit()

    threading.Thread(target=camera.film, daemon=True).start()
    threading.Thread(target=obey, daemon=True).start()
    print(f"ready {server.get_bound_port()}", flush=True)
    loop.run()


main()
