"""Tests of the installed package under systemd: boot.sh runs them as a unit of a temporary system, never
elsewhere.

Installs the package with apt, sets Redis up by deploy/README.md, and starts the engine, the cameras and
both bridges by their units. Then exposes them to a crash, a hang, a wrong configuration, a reload and a
stop. The accounts are those of the example, so that units have the same rights as at a site.
"""

import glob
import http.server
import itertools
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

HERE = pathlib.Path("/root/package")
EXAMPLES = pathlib.Path("/usr/share/doc/framepress/examples")
CONFIG = pathlib.Path("/etc/framepress/framepress.yaml")
LONG = 60.0
UNITS = ("framepress.service", "framepress-ingest.service", "framepress-bridge@kafka-to-redis.service")
BRIDGES = ("framepress-bridge@kafka-to-redis", "framepress-bridge@redis-to-kafka")
# systemd's own scale: 0 is locked up, 10 is wide open.
EXPOSURE_MAX = 1.5


def fail(why):
    for unit in ("kafka", "redis-server", "framepress-ingest", "framepress", *BRIDGES):
        if state(unit) != "inactive":
            print(f"--- {unit}: {show(unit, 'ActiveState', 'SubState', 'StatusText', 'Result')}")
            print("\n".join(journal(unit).splitlines()[-12:]))
    print(f"booted: {why}", flush=True)
    sys.exit(1)


def run(*command, check=True, **options):
    options = {"stdin": subprocess.DEVNULL, "timeout": 120, **options}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", **options
    )
    if check and done.returncode != 0:
        fail(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}")
    return done.stdout.strip()


def journal(unit):
    return run("journalctl", "-u", unit, "--no-pager", "-o", "cat", check=False)


def show(unit, *properties):
    text = run("systemctl", "show", unit, "-p", ",".join(properties), check=False)
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def state(unit):
    return show(unit, "ActiveState").get("ActiveState", "")


def number(unit, name):
    return int(show(unit, name)[name])


def wait_for(what, condition, limit=LONG):
    end = time.monotonic() + limit
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    return fail(f"{what}: not within {limit:.0f} s")


def check(what, condition, detail=""):
    if not condition:
        fail(f"{what} {detail}")


def redis(*command, user="admin"):
    # An account without the right gets text that begins with NOPERM; no caller takes that for data.
    login = ("--user", user, "--pass", f"change-me-{user}")
    return run("redis-cli", "--no-auth-warning", *login, *command)


def results():
    text = redis("XINFO", "STREAM", "processed_frames")
    found = re.search(r"entries-added\n(\d+)", text)
    return int(found[1]) if found else 0


def more_results(than=None, count=10):
    than = results() if than is None else than
    wait_for(f"{count} results more than {than}", lambda: results() >= than + count)


def install():
    if os.path.isdir("/var/lib/dpkg") and run("dpkg-query", "-W", "framepress", check=False).startswith(
        "framepress"
    ):
        run("dpkg", "-P", "framepress")
    run("apt-get", "install", "-y", "--no-install-recommends", f"{HERE}/framepress.deb")
    run("systemctl", "daemon-reload")
    for unit in (*UNITS, "framepress-cameras.service"):
        check(f"{unit} is there", show(unit, "LoadState")["LoadState"] == "loaded")
        check(f"{unit} waits for its owner", state(unit) == "inactive", state(unit))
    for unit in UNITS:
        said = run(
            "systemd-analyze",
            "verify",
            f"/usr/lib/systemd/system/{unit.replace('@kafka-to-redis', '@')}",
            check=False,
        )
        check(f"{unit} is valid", not re.search(r"framepress.*\.service", said), said)
        text = run("systemd-analyze", "security", "--no-pager", unit, check=False)
        exposure = float(re.search(r"exposure level.*?: ([0-9.]+)", text)[1])
        check(f"{unit} is locked up", exposure <= EXPOSURE_MAX, exposure)
    print("booted: installed by apt; units valid and locked up")


def configure():
    """deploy/README.md, "A box with systemd", with the example files of the package."""
    settings = (EXAMPLES / "redis/redis.conf").read_text()
    pathlib.Path("/etc/redis/redis.conf").write_text(settings + "\ndir /var/lib/redis\n")
    pathlib.Path("/etc/redis/users.acl").write_text((EXAMPLES / "redis/users.acl").read_text())
    for file in ("redis.conf", "users.acl"):
        run("chown", "redis:redis", f"/etc/redis/{file}")
    run("systemctl", "restart", "redis-server")
    wait_for("Redis", lambda: "PONG" in redis("PING"))

    CONFIG.write_text(
        CONFIG.read_text()
        + """
ingest:
  stats:
    addr: 127.0.0.1:8081
cameras:
  # Decoded by ffmpeg into a frame ring.
  - id: north
    source: http://127.0.0.1:8090/north
    format: yuv420p
    ring: 16
  # As it comes, through Redis.
  - id: south
    source: http://127.0.0.1:8090/south
kafka:
  bootstrap_servers: [127.0.0.1:9092]
  input_topic: camera_frames
  output_topic: processed_frames
"""
    )
    for name, user in (
        ("framepress", "framepress"),
        ("framepress-ingest", "camera"),
        ("framepress-bridge", "bridge"),
    ):
        password = "change-me-engine" if user == "framepress" else f"change-me-{user}"
        file = pathlib.Path(f"/etc/framepress/{name}.env")
        file.touch(mode=0o600)
        file.write_text(
            f"REDIS_QUEUE__URL=redis://{user}:{password}@127.0.0.1:6379/0\nSTATS__TOKEN=cabinet\n"
        )


class Camera(http.server.BaseHTTPRequestHandler):
    """MJPEG as network cameras send it, ten pictures a second until the client closes the connection."""

    pictures = []

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        try:
            for picture in itertools.cycle(self.pictures):
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                self.wfile.write(head.encode() + picture + b"\r\n")
                time.sleep(0.1)
        except OSError:
            pass

    def log_message(self, *_):
        pass


def cameras():
    with tempfile.TemporaryDirectory() as folder:
        run(
            "ffmpeg",
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            "testsrc2=size=640x480:rate=10",
            "-frames:v",
            "40",
            f"{folder}/%03d.jpg",
        )
        Camera.pictures = [file.read_bytes() for file in sorted(pathlib.Path(folder).iterdir())]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 8090), Camera)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()


def pid_of(unit):
    return number(unit, "MainPID")


def locked(unit):
    """Reads the state from the kernel, not from the unit file."""
    status = pathlib.Path(f"/proc/{pid_of(unit)}/status").read_text()

    def field(name):
        return re.search(rf"^{name}:\s*(.*)$", status, re.M)[1].split()

    check(f"{unit} is not root", "0" not in field("Uid"), field("Uid"))
    check(f"{unit} has no capability", int(field("CapEff")[0], 16) == int(field("CapBnd")[0], 16) == 0)
    check(f"{unit} gets no new privileges", field("NoNewPrivs") == ["1"])
    check(f"{unit} is filtered", field("Seccomp") == ["2"])
    limit = number(unit, "TasksMax")
    check(f"{unit} has a limit of tasks", limit <= 8192, limit)
    check(f"{unit} is watched", show(unit, "WatchdogUSec")["WatchdogUSec"] not in ("0", "infinity"))
    score = pathlib.Path(f"/proc/{pid_of(unit)}/oom_score_adj").read_text().strip()
    check(f"{unit} goes before Redis", score == "200", score)


def ready(unit, *words):
    """`systemctl start` of a Type=notify unit returns when the program has reported ready."""
    run("systemctl", "start", unit)
    check(f"{unit} is active", state(unit) == "active", state(unit))
    wait_for(
        f"the status of {unit}", lambda: all(word in show(unit, "StatusText")["StatusText"] for word in words)
    )
    locked(unit)


def asked(path):
    """Answer of the engine's statistics server."""
    request = urllib.request.Request(
        f"http://127.0.0.1:8080/{path}", headers={"Authorization": "Bearer cabinet"}
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        return answer.read().decode()


def frames_flow():
    ready("framepress", "ready")
    ready("framepress-cameras", "ready")
    more_results(0, 40)
    found = re.search(r"^framepress_ring_frames_total (\d+)", asked("metrics"), re.M)
    check("pixels of a camera pass Redis by a ring", found and int(found[1]) > 0, found and found[0])
    for port in ("8080", "8081"):
        said = run("framepress", "health", "--ready", "--url", f"http://127.0.0.1:{port}")
        check(f"health at {port}", said == "ok", said)
    wait_for("the engine's account to see the states of cameras", lambda: '"live"' in asked("api/v1/cameras"))
    owner = {run("stat", "-c", "%U", file) for file in glob.glob("/run/framepress/*")}
    check("the ring belongs to the service", owner == {"framepress"}, owner)
    stranger = run("runuser", "-u", "nobody", "--", "ls", "/run/framepress", check=False)
    check("no other account enters its folder", "Permission denied" in stranger, stranger)
    print("booted: engine and cameras ready, one camera by a frame ring; accounts of the example suffice")


def crash(unit, what, then):
    before, restarts = pid_of(unit), number(unit, "NRestarts")
    run("kill", "-KILL", str(before))
    wait_for(f"{unit} after {what}", lambda: number(unit, "NRestarts") > restarts and state(unit) == "active")
    check(f"{unit} is another process", pid_of(unit) not in (0, before))
    then()


def hang(unit, then):
    """The watchdog kills a process without signs of life, and systemd restarts it."""
    folder = pathlib.Path(f"/run/systemd/system/{unit}.service.d")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "quick.conf").write_text("[Service]\nWatchdogSec=4\n")
    run("systemctl", "daemon-reload")
    run("systemctl", "restart", unit)
    restarts = number(unit, "NRestarts")
    time.sleep(9)
    check(f"{unit} answers its watchdog", number(unit, "NRestarts") == restarts and state(unit) == "active")
    run("kill", "-STOP", str(pid_of(unit)))
    wait_for(f"{unit} after a hang", lambda: number(unit, "NRestarts") > restarts and state(unit) == "active")
    then()


def wrong_configuration():
    good = CONFIG.read_text()
    run("systemctl", "stop", "framepress")
    check("a stop is no failure", state("framepress") == "inactive", state("framepress"))
    CONFIG.write_text(good + "\nno_such_section: 1\n")
    run("systemctl", "start", "framepress", check=False)
    wait_for("an engine that gives up", lambda: state("framepress") == "failed")
    check("exit code 2", number("framepress", "ExecMainStatus") == 2)
    time.sleep(3)
    check("it is not tried again", state("framepress") == "failed")
    CONFIG.write_text(good)
    ready("framepress", "ready")
    more_results()
    CONFIG.write_text(good.replace("log:\n", "log:\n  level: debug\n", 1))
    before = pid_of("framepress")
    run("systemctl", "reload", "framepress")
    wait_for("the reload in the journal", lambda: "has been read again" in journal("framepress"))
    check("a reload keeps the process", pid_of("framepress") == before and state("framepress") == "active")
    CONFIG.write_text(good)
    print("booted: crash, hang, wrong configuration and reload, each as the unit promises")


def kafka_unit(libs):
    """One node, broker and controller at once, as a separate unit."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="kafka-"))
    properties = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.listener.names": "CONTROLLER",
        "listeners": "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093",
        "advertised.listeners": "PLAINTEXT://127.0.0.1:9092",
        "controller.quorum.bootstrap.servers": "127.0.0.1:9093",
        "log.dirs": f"{folder}/data",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "1",
        "num.partitions": "1",
    }
    file = folder / "server.properties"
    file.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
    java = f"/usr/bin/java -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp {libs}/*"
    run(
        *java.split(),
        "kafka.tools.StorageTool",
        "format",
        "--standalone",
        "-t",
        "bm90LWEtc2VjcmV0LWlkMQ",
        "-c",
        str(file),
    )
    pathlib.Path("/run/systemd/system/kafka.service").write_text(
        f"[Service]\nExecStart={java} kafka.Kafka {file}\nSuccessExitStatus=143\n"
    )
    run("systemctl", "daemon-reload")
    run("systemctl", "start", "kafka")

    def tool(name, *arguments):
        command = (
            *java.split(),
            f"org.apache.kafka.tools.{name}",
            "--bootstrap-server",
            "127.0.0.1:9092",
            *arguments,
        )
        return run(*command, check=False)

    return (
        lambda topic: tool("GetOffsetShell", "--topic", topic),
        lambda topic: tool(
            "TopicCommand", "--create", "--if-not-exists", "--partitions", "1", "--topic", topic
        ),
    )


def bridges(libs):
    for unit in BRIDGES:
        # The bridge waits for a missing Kafka, and systemd neither fails nor kills it meanwhile.
        run("systemctl", "start", "--no-block", unit)
        wait_for(f"{unit} waits", lambda unit=unit: "Kafka" in show(unit, "StatusText")["StatusText"])
        check(f"{unit} is starting", state(unit) == "activating", state(unit))
    if not libs or not os.path.isdir(libs):
        print("booted: SKIPPED: no Kafka here; the bridges were only seen waiting for one")
        return
    offsets, create = kafka_unit(libs)
    wait_for(
        "Kafka", lambda: all("rror" not in create(topic) for topic in ("camera_frames", "processed_frames"))
    )
    for unit in BRIDGES:
        wait_for(f"{unit} is ready", lambda unit=unit: state(unit) == "active", 120)
        locked(unit)
    # Results reach Kafka, and frames of the topic reach the engine.
    wait_for(
        "results in Kafka", lambda: re.search(r"processed_frames:0:[1-9]\d", offsets("processed_frames")), 120
    )
    for unit in BRIDGES:
        crash(unit, "a crash", lambda: None)
    last = int(re.search(r"processed_frames:0:(\d+)", offsets("processed_frames"))[1])
    wait_for(
        "more results in Kafka after the crash",
        lambda: (
            int((re.search(r"processed_frames:0:(\d+)", offsets("processed_frames")) or [0, 0])[1])
            > last + 10
        ),
        120,
    )
    print("booted: both bridges wait for Kafka, carry, and come back after a crash")


def main():
    print(f"booted: {run('systemctl', '--version').splitlines()[0]}")
    check(
        "this is a system to be thrown away",
        pathlib.Path("/run/systemd/system").is_dir() and os.getppid() == 1,
    )
    install()
    configure()
    cameras()
    frames_flow()
    for unit in ("framepress", "framepress-ingest"):
        crash(unit, "a crash", more_results)
        hang(unit, more_results)
    wrong_configuration()
    bridges(os.environ.get("KAFKA_LIBS", ""))
    began = time.monotonic()
    for unit in (*BRIDGES, "framepress-cameras", "framepress"):
        run("systemctl", "stop", unit)
        found = show(unit, "ActiveState", "Result", "ExecMainStatus")
        check(
            f"{unit} stops in order",
            found["ActiveState"] == "inactive" and found["Result"] == "success",
            found,
        )
    pending = json.loads(
        run(
            "redis-cli",
            "--no-auth-warning",
            "--user",
            "admin",
            "--pass",
            "change-me-admin",
            "--json",
            "XPENDING",
            "camera_frames",
            "stream_processor",
        )
    )
    check("nothing is left pending", pending[0] == 0, pending)
    left = run("pgrep", "-a", "-f", "framepress (run|ingest|bridge)|ffmpeg", check=False)
    check("no process is left", not left, left)
    print(
        f"booted: all stopped in order within {time.monotonic() - began:.0f} s; nothing pending, nothing left"
    )


main()
