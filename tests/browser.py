"""A headless Chromium for tests of pages: real clicks and keys, screenshots, and what the page did on its own.

It is spoken to in the DevTools protocol, over two pipes: https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# The sandbox needs rights that a container does not give; the pages are our own.
_OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe")


@contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """A page of a browser with a fresh profile in `folder`; the test skips where there is no Chromium."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip("needs Chromium")
    to_read, to_write = os.pipe(), os.pipe()
    # Chromium reads from 3 and writes to 4.
    command = f'exec "$0" "$@" 3<&{to_read[0]} 4>&{to_write[1]}'
    process = subprocess.Popen(
        ["bash", "-c", command, program, *_OPTIONS, f"--user-data-dir={folder}"],
        pass_fds=(to_read[0], to_write[1]),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_read[0])
    os.close(to_write[1])
    with open(to_read[1], "wb", buffering=0) as out, open(to_write[0], "rb") as in_:
        try:
            yield Page(out, in_)
        finally:
            process.terminate()
            process.wait(30)


class Page:
    """One tab.

    Attributes
    ----------
    events : list of dict
        Everything that the browser told without being asked: requests, exceptions, messages.
    """

    def __init__(self, out: Any, in_: Any) -> None:
        self._out, self._in, self._number, self._session = out, in_, 0, None
        self._left = b""
        self.events: list[dict[str, Any]] = []
        # The browser has pages of its own behind the scenes.
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """Call the browser and return its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._out.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            data = self._in.read1(1 << 20)
            assert data, "the browser has gone"
            self._left += data
        answer, _, self._left = self._left.partition(b"\0")
        message: dict[str, Any] = json.loads(answer)
        if "id" not in message:
            self.events.append(message)
        return message

    def open(self, path: Path) -> None:
        """Open a file and wait until it is loaded."""
        self.events.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._next()

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def click(self, selector: str) -> None:
        """Press and release the mouse in the middle of an element."""
        element = f"document.querySelector({json.dumps(selector)})"
        self.evaluate(f"{element}.scrollIntoView({{block: 'center'}})")
        box = f"(({element}).getBoundingClientRect())"
        x, y = (self.evaluate(f"{box}.{start} + {box}.{size} / 2") for start, size in (("x", "width"), ("y", "height")))
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str, text: str = "") -> None:
        """Press and release a key."""
        codes = {"Tab": 9, "Enter": 13}
        parameters = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **parameters)
        self.call("Input.dispatchKeyEvent", type="keyUp", **parameters)

    def look(self, width: int = 1200, height: int = 800, dark: bool = False) -> None:
        """Give the window a size, and the system a color scheme."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path) -> None:
        """Write a picture of the whole page."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def fetched(self) -> list[str]:
        """Addresses of everything that was asked for since `open`, but for the file itself and data inside it."""
        urls = [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]
        return [url for url in urls[1:] if not url.startswith("data:")]

    def complaints(self) -> list[dict[str, Any]]:
        """Exceptions of scripts, and messages of the browser such as refused scripts."""
        return [e for e in self.events if e["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")]
