"""A headless Chromium driven over a pipe by the DevTools protocol: no library, no port, no network."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from select import select

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-dev-shm-usage", "--remote-debugging-pipe", "--disable-component-update", "--disable-sync",
)  # fmt: skip

START = """import os, sys
for to, end in ((3, 1), (4, 2)):
    os.dup2(int(sys.argv[end]), to)
os.execv(sys.argv[3], sys.argv[3:])"""
"""The protocol wants its pipes as descriptors 3 and 4."""


class Chromium:
    """A browser with one tab; `faults` are the console's errors and uncaught exceptions."""

    def __init__(self, width=1400, height=900, scale=1.0, mobile=False, dark=False):
        self.width, self.height, self.scale, self.mobile, self.dark = width, height, scale, mobile, dark
        self.faults, self.count, self.buffer = [], 0, b""

    def __enter__(self):
        self.profile = tempfile.mkdtemp()
        (its_in, self.to), (self.back, its_out) = os.pipe(), os.pipe()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (its_in, its_out)]
        start = [sys.executable, "-c", START, *map(str, ends), CHROMIUM, *FLAGS, f"--user-data-dir={self.profile}"]
        self.process = subprocess.Popen(start, pass_fds=ends, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for end in (its_in, its_out, *ends):
            os.close(end)
        self.session = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=self.width, height=self.height, deviceScaleFactor=self.scale, mobile=self.mobile,
        )  # fmt: skip
        if self.mobile:
            self.send("Emulation.setTouchEmulationEnabled", enabled=True)
        self.theme(self.dark)
        return self

    def __exit__(self, *_):
        try:
            self.session = None
            self.send("Browser.close")
            self.process.wait(10)
        except (OSError, subprocess.TimeoutExpired, AssertionError):
            self.process.kill()
            self.process.wait()
        os.close(self.to)
        os.close(self.back)
        shutil.rmtree(self.profile, ignore_errors=True)

    def theme(self, dark):
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.send("Emulation.setEmulatedMedia", features=features)

    def send(self, method, **parameters):
        """Ask, and wait for the answer; events that come before it are looked at."""
        self.count += 1
        asked = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            asked["sessionId"] = self.session
        os.write(self.to, json.dumps(asked).encode() + b"\0")
        while True:
            found = self._message()
            if found.get("id") == self.count:
                assert "error" not in found, found["error"]
                return found["result"]
            self._event(found)

    def open(self, page: Path, anchor=""):
        """Go to a page and wait for its load event; milliseconds from the start to that."""
        # By way of nowhere: going to another anchor of the page that is open would load nothing.
        for address in ("about:blank", page.resolve().as_uri() + anchor):
            self.loaded = False
            self.send("Page.navigate", url=address)
            while not self.loaded:
                self._event(self._message())
        return self.run("performance.timing.loadEventEnd - performance.timing.navigationStart")

    def run(self, code):
        """The value of an expression, awaited if it is a promise."""
        found = self.send("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def key(self, name):
        """Press and release a key where the focus is."""
        text = {"Enter": "\r"}.get(name)
        for kind in ("keyDown", "keyUp"):
            more = {"text": text, "windowsVirtualKeyCode": 13} if text else {}
            self.send("Input.dispatchKeyEvent", type=kind, key=name, code=name, **more)

    def picture(self, file: Path, whole=False):
        """A PNG of what is in view, or of the whole page."""
        clip = {}
        if whole:
            size = self.send("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"clip": {"x": 0, "y": 0, "width": self.width, "height": min(size["height"], 12000), "scale": 1}}
        found = self.send("Page.captureScreenshot", captureBeyondViewport=whole, **clip)
        file.write_bytes(base64.b64decode(found["data"]))

    def _event(self, found):
        method, values = found.get("method"), found.get("params", {})
        if method == "Page.loadEventFired":
            self.loaded = True
        elif method == "Runtime.exceptionThrown":
            self.faults.append(str(values["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and values["type"] in ("error", "assert"):
            self.faults.append(str(values["args"]))
        elif method == "Log.entryAdded" and values["entry"]["level"] == "error":
            self.faults.append(str(values["entry"]))

    def _message(self, seconds=60.0):
        end = time.monotonic() + seconds
        while b"\0" not in self.buffer:
            assert self.process.poll() is None, "the browser is gone"
            assert time.monotonic() < end, "the browser does not answer"
            if select([self.back], [], [], 1.0)[0]:
                self.buffer += os.read(self.back, 1 << 20)
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)
