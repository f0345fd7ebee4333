"""A headless Chromium, driven through its DevTools protocol."""

import itertools
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from tests.waiting import eventually

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync")
WEBCAM = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


class NavigatedError(AssertionError):
    """The page that was asked has gone, and another comes."""


class Page:
    """One tab."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)

    def _send(self, method: str, parameters: dict[str, object]) -> int:
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        return number

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        number = self._send(method, parameters)
        while (answer := json.loads(self._connection.recv(30))).get("id") != number:
            pass
        if "navigated" in answer.get("error", {}).get("message", ""):
            raise NavigatedError(answer["error"])
        assert "error" not in answer, answer["error"]
        result: dict[str, Any] = answer["result"]
        return result

    def js(self, expression: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression: str, seconds: float = 20) -> Any:
        """The value of the expression as soon as it is true."""
        try:
            return eventually(lambda: self._js_of_this_page(expression), expression, seconds, every_s=0.05)
        except AssertionError as error:
            error.add_note(str(self._js_of_this_page("document.body?.innerText")))
            raise

    def _js_of_this_page(self, expression: str) -> Any:
        """The value of the expression; None while another page comes."""
        with suppress(NavigatedError):
            return self.js(expression)
        return None

    def open(self, address: str) -> None:
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete'")

    @contextmanager
    def new_tab(self) -> Iterator["Page"]:
        """Another tab of this browser, with its cookies and its storage; it is closed with the block."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        port = self._connection.remote_address[1]
        with connect(f"ws://127.0.0.1:{port}/devtools/page/{target}", max_size=None, proxy=None) as connection:
            try:
                yield Page(connection)
            finally:
                self.call("Target.closeTarget", targetId=target)

    def leave(self, address: str) -> None:
        """Open an address from a page that asks first whether to leave it, and say yes."""
        self.call("Page.enable")
        self._send("Page.navigate", {"url": address})
        while json.loads(self._connection.recv(30)).get("method") != "Page.javascriptDialogOpening":
            pass
        self.call("Page.handleJavaScriptDialog", accept=True)
        self.wait("document.readyState === 'complete'")

    def sign_in(self, address: str, user: str, password: str) -> None:
        """Open an address as a person who has typed user and password."""
        self.open(address.replace("://", f"://{user}:{password}@", 1))
        self.open(address)  # no fetch from an address that holds a password

    def choose(self, selector: str, *files: Path) -> None:
        """Fill a file input as a person does."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=list(map(str, files)), nodeId=node)

    def drop(self, selector: str, *files: Path) -> None:
        """Drag files of this machine onto the middle of an element, and drop them."""
        x, y = self.js(
            f"(box => [box.x + box.width / 2, box.y + box.height / 2])"
            f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
        )
        data = {"items": [], "files": list(map(str, files)), "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def resize(self, width: int, height: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def assert_no_wider(self, *widths: int) -> None:
        """In windows of these widths nothing has to be scrolled sideways."""
        for width in widths:
            self.resize(width, 800)
            self.wait(f"innerWidth === {width}")
            assert self.js("document.documentElement.scrollWidth") <= width


@contextmanager
def chromium(folder: Path, *more: str) -> Iterator[Page]:
    """A browser with an empty profile in `folder`; it ends with the block."""
    options = ["--headless", "--no-sandbox", *QUIET, *WEBCAM, f"--user-data-dir={folder}", "--remote-debugging-port=0"]
    options += more
    with subprocess.Popen([str(CHROMIUM), *options, "about:blank"], stderr=subprocess.DEVNULL) as process:
        try:
            port_file = folder / "DevToolsActivePort"
            eventually(lambda: port_file.exists() and port_file.read_text(), "a started Chromium", 60)
            lines = port_file.read_text().splitlines()
            tabs = httpx.get(f"http://127.0.0.1:{lines[0]}/json", trust_env=False).json()
            address = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
            with connect(address, max_size=None, proxy=None) as connection:
                yield Page(connection)
        finally:
            process.terminate()


OpenBrowser = Callable[..., AbstractContextManager[Page]]
