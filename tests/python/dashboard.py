"""The dashboard in a real browser: what it shows, what it requests, and how it handles failures.

Needs Chromium and its driver (Debian: chromium, chromium-driver); without them it says so and ends.
FRAMEPRESS_BIN names the program under test, FRAMEPRESS_REDIS_SERVER another server than redis-server.
"""

import base64
import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import redis
from PIL import Image

SERVER = os.environ.get("FRAMEPRESS_REDIS_SERVER") or "redis-server"
PATIENCE = 60.0
NASTY = "<script>alert(1)</script>"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1440,900",
]

passed = 0
failures = []


def check(name, condition, detail=""):
    """Counts one assertion; a failed one is reported at once and at the end."""
    global passed
    if condition:
        passed += 1
    else:
        failures.append(name)
        print(f"FAILED {name}: {detail}")


def eventually(name, condition):
    """An assertion about something that is refreshed every few seconds."""
    ends = time.monotonic() + PATIENCE
    last = None
    while time.monotonic() < ends:
        last = condition()
        if last is True:
            break
        time.sleep(0.1)
    check(name, last is True, last)
    return last is True


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def frame(frame_id, camera):
    """A frame as the old producers send it."""
    file = io.BytesIO()
    Image.linear_gradient("L").resize((160, 120)).convert("RGB").save(file, "JPEG")
    picture = base64.b64encode(file.getvalue()).decode()
    return {"data": json.dumps({"frame_id": frame_id, "camera_id": camera, "image_base64": picture})}


@contextlib.contextmanager
def running(command, environment=None):
    """Runs a program for the duration of the block."""
    program = subprocess.Popen(
        command,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield program
    finally:
        program.send_signal(signal.SIGTERM)
        program.wait()


def engine(redis_port, port, **more):
    environment = {
        "REDIS_QUEUE__URL": f"redis://127.0.0.1:{redis_port}/0",
        "REDIS_QUEUE__BLOCK_TIME_MS": "100",
        "ENGINE__PIN": "off",
        "STATS__ADDR": f"127.0.0.1:{port}",
        **more,
    }
    return running([os.environ["FRAMEPRESS_BIN"], "run"], environment)


@contextlib.contextmanager
def browser():
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory() as folder:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        for flag in [*FLAGS, f"--user-data-dir={folder}"]:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            yield driver
        finally:
            driver.quit()


def api(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as answer:
        return json.load(answer)


def at(figures, path):
    for key in path.split("."):
        figures = figures[key]
    return figures


def state(driver):
    return driver.execute_script("return document.body.dataset.state")


def dialog_is_open(driver, name):
    return driver.execute_script("return document.getElementById(arguments[0]).open", name)


def texts(driver, selector):
    script = "return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent)"
    return driver.execute_script(script, selector)


def numbers(driver, port, client):
    """The page shows the figures of the API."""
    fields = driver.execute_script(
        "return [...document.querySelectorAll('[data-format=whole]')].map((one) => one.dataset.field)"
    )
    check("there are figures to compare", len(fields) > 10, fields)

    def same():
        # The engine is idle, so both sides settle at the same figures.
        figures = api(port, "/api/v1/system/metrics")
        shown = texts(driver, "[data-format=whole]")
        wanted = [f"{at(figures, field):,.0f}" for field in fields]
        return shown == wanted or {f: (s, w) for f, s, w in zip(fields, shown, wanted) if s != w}

    eventually("the figures of the page are those of the API", same)
    check("the sum is the one of the entries", at(api(port, "/api/v1/system/metrics"), "conservation.read") == 13)

    def cameras_same():
        listed = api(port, "/api/v1/cameras")["cameras"]
        rows = driver.execute_script(
            "return [...document.querySelectorAll('#cameras tr')].map((row) => "
            "[row.dataset.camera, row.querySelector('th').textContent, row.children[3].textContent])"
        )
        wanted = [[c["camera_id"], c["camera_id"] or "(no name)", f"{c['frames_processed']:,}"] for c in listed]
        return rows == wanted or (rows, wanted)

    eventually("the table lists the cameras of the API", cameras_same)

    def queues_same():
        queues = api(port, "/api/v1/system/metrics")["queue_metrics"]
        shown = texts(driver, "[data-queue] td:nth-child(2)")
        wanted = [f"{queues[name]['depth']:,}" for name in ("input", "output", "dead_letter")]
        return shown == wanted or (shown, wanted)

    eventually("the queues are those of the API", queues_same)

    def letters_same():
        letters = api(port, "/api/v1/dead-letters")["latest"]
        shown = texts(driver, "#letters .chip")
        wanted = [letter["reason"] for letter in letters]
        return (len(wanted) == 3 and shown == wanted) or (shown, wanted)

    eventually("the dead letters are those of the API", letters_same)


def rings_are_summed(driver):
    check("no frame rings", texts(driver, "#rings") == ["none"], texts(driver, "#rings"))
    rings = [
        {"name": name, "slots": 8, "slot_bytes": 1 << 20, "waiting": 2, "frames": 1200, "overwritten": lost}
        for name, lost in (("east", 0), ("west", 3))
    ]
    shown = driver.execute_script(
        "showRings(arguments[0]); const one = document.getElementById('rings');"
        "const shown = [one.textContent, one.title]; showRings([]); return shown", rings
    )
    check("two rings are summed", shown[0] == "2 with 16.8 MB, 3 overwritten", shown)
    lines = shown[1].split("\n")
    check("a ring has a line", lines[1] == "west: 8 slots of 1 MB, 2 waiting; 1,200 frames read, 3 overwritten", shown)


def names_are_text(driver):
    check("a camera's name is text", NASTY in texts(driver, "#cameras th"), texts(driver, "#cameras th"))
    count = driver.execute_script("return document.scripts.length")
    check("no name became a script", count == 1, count)
    bold = driver.execute_script("return document.querySelectorAll('main b:not(.tile b)').length")
    check("no name became markup", bold == 0, bold)


def pictures(driver, client):
    """Pictures come with the next frames, and can be enlarged without a mouse."""
    sent = 0

    def seen():
        nonlocal sent
        sent += 1
        client.xadd("camera_frames", frame(f"p{sent}", NASTY))
        script = (
            "const row = [...document.querySelectorAll('#cameras tr')].find((one) => "
            "one.dataset.camera === arguments[0]); row.scrollIntoView();"
            "const image = row.querySelector('img'); return Boolean(image && image.naturalWidth === 160)"
        )
        return driver.execute_script(script, NASTY) or "no picture yet"

    if not eventually("the latest picture is shown", seen):
        return
    from selenium.webdriver.common.keys import Keys

    button = driver.execute_script(
        "return [...document.querySelectorAll('#cameras tr')].find((one) => "
        "one.dataset.camera === arguments[0]).querySelector('button')",
        NASTY,
    )
    button.send_keys(Keys.ENTER)
    eventually("the picture opens by keyboard", lambda: dialog_is_open(driver, "viewer"))
    name = texts(driver, "#viewer-name")
    check("the large picture says whose it is", name == [NASTY], name)
    driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    eventually("and closes by keyboard", lambda: not dialog_is_open(driver, "viewer"))


CONTRAST = """
const light = (text) => {
  const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map((part) => {
    const share = part / 255;
    return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (one) => {
  for (let at = one; at; at = at.parentElement) {
    const colour = getComputedStyle(at).backgroundColor;
    if (colour !== 'rgba(0, 0, 0, 0)') return colour;
  }
};
return [...document.querySelectorAll('h2, dt, dd, th, td, small, .chip, .status, .status *, .tick, .legend span')]
  .filter((one) => one.textContent.trim() && one.clientWidth)
  .map((one) => {
    const [a, b] = [light(getComputedStyle(one).color), light(ground(one))].sort((x, y) => y - x);
    return [(a + 0.05) / (b + 0.05), one.textContent];
  })
  .filter(([ratio]) => ratio < 4.5);
"""


def shapes(driver):
    """Phone and desk, dark and light."""
    for theme in ("light", "dark"):
        media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        faint = driver.execute_script(CONTRAST)
        check(f"everything can be read in {theme}", not faint, faint)
    for width in (320, 390, 768, 1440):
        size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        wide = driver.execute_script("return document.documentElement.scrollWidth")
        check(f"nothing is wider than a screen of {width}", wide <= width, wide)


def complaints(driver):
    return [line["message"] for line in driver.get_log("browser") if line["level"] == "SEVERE"]


def requests(driver):
    events = (json.loads(line["message"])["message"] for line in driver.get_log("performance"))
    return {
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }


def token_is_asked_for(driver, redis_port):
    port = free_port()
    with engine(redis_port, port, STATS__TOKEN="open-sesame"):

        def load():
            try:
                driver.get(f"http://127.0.0.1:{port}/")
                return True
            except Exception as error:  # not up yet
                return str(error)

        eventually("the page needs no token", load)
        eventually("it asks for the token", lambda: dialog_is_open(driver, "ask"))
        field = driver.find_element("id", "ask-token")
        field.send_keys("wrong\n")
        eventually(
            "a wrong token is told",
            lambda: "does not accept" in texts(driver, "#ask-wrong")[0]
            and dialog_is_open(driver, "ask"),
        )
        driver.find_element("id", "ask-token").send_keys("open-sesame\n")
        eventually("the right one opens the page", lambda: state(driver) == "good" or state(driver))


def session(redis_port):
    client = redis.Redis(port=redis_port)

    def answers():
        try:
            return client.ping()
        except redis.exceptions.ConnectionError:
            return "not yet"

    if not eventually("redis-server answers", answers):
        return
    port = free_port()
    with browser() as driver:
        with engine(redis_port, port) as program:

            def ready():
                try:
                    return api(port, "/api/v1/system/metrics")["health"]["ready"]
                except OSError as error:
                    return str(error)

            eventually("the engine is ready", ready)
            driver.get(f"http://127.0.0.1:{port}/")
            eventually("an idle engine is healthy", lambda: state(driver) == "good" or state(driver))
            eventually(
                "no cameras are told", lambda: texts(driver, "#no-cameras") == ["No camera has sent a frame yet."]
            )
            for number in range(5):
                client.xadd("camera_frames", frame(f"a{number}", "north-ramp"))
                client.xadd("camera_frames", frame(f"b{number}", NASTY))
            for number in range(3):
                client.xadd("camera_frames", {"data": f"<b>no frame {number}</b>", "camera_id": "<b>bold</b>"})
            numbers(driver, port, client)
            rings_are_summed(driver)
            names_are_text(driver)
            pictures(driver, client)
            shapes(driver)
            found = complaints(driver)
            check("the console has nothing to complain of", not found, found)
            asked = requests(driver)
            own = (f"http://127.0.0.1:{port}/", f"blob:http://127.0.0.1:{port}/", "data:")
            # The browser's own pages, such as a new tab, are not requests.
            outside = [url for url in asked if not url.startswith((*own, "chrome:"))]
            check("nothing is asked of anybody else", asked and not outside, outside)

            program.kill()
            eventually("a dead engine is told", lambda: state(driver) == "gone" or state(driver))
            word = texts(driver, "#status-word")
            check("in words", word == ["The engine does not answer"], word)
        with engine(redis_port, port):
            eventually("a new engine is noticed", lambda: state(driver) == "good" or state(driver))
        token_is_asked_for(driver, redis_port)


def main():
    if "FRAMEPRESS_BIN" not in os.environ:
        sys.exit("FRAMEPRESS_BIN names the program under test; `make python-test` sets it")
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            print(f"skipped: the dashboard is not tested, for {program} is not installed")
            return
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", folder]
        with running([SERVER, *options]):
            session(port)
    print(f"dashboard: {passed} passed, {len(failures)} failed")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
