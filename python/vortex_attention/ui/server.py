"""Serves the page and its JSON on 127.0.0.1 and nowhere else. Answers GET and HEAD only, names of hosts that are this machine only (so that
no other site reaches it through a name of its own), and sends a content security policy under which nothing but its own files runs.
"""

from __future__ import annotations

import json
import math
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources

from ..errors import InternalError, MachineError, UserError, VortexError
from ..ledger import Ledger
from .proposal import details
from .state import Watch

HOST = "127.0.0.1"
HOSTS = {"127.0.0.1", "localhost", "[::1]"}  # whatever the port: an SSH tunnel may use another
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def files() -> dict[str, tuple[str, bytes]]:
    """Path of the page's files → (type, bytes)."""
    found = {}
    for file in (resources.files(__package__) / "page").iterdir():
        kind = TYPES.get("." + file.name.rpartition(".")[2])
        if kind:
            found["/" + file.name] = kind, file.read_bytes()
    found["/"] = found["/index.html"]
    return found


class Server:
    """A page on a ledger. port 0: a free one. Use as a context manager, then `serve_forever` or `in_background`."""

    def __init__(self, ledger: Ledger, port: int = 0):
        self.watch = Watch(ledger)
        self._thread: threading.Thread | None = None
        handler = type("Handler", (_Handler,), {"watch": self.watch, "files": files()})
        try:
            self._server = _Listener((HOST, port), handler)
        except (OSError, OverflowError) as error:
            said = getattr(error, "strerror", None) or str(error)
            raise MachineError(
                "ui", f"port {port} of {HOST}", said, "choose another with --port, or 0 for a free one"
            ) from None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._server.server_address[1]}/"

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:  # else it would ask a closed socket for ever
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def serve_forever(self) -> None:
        self._server.serve_forever(poll_interval=0.2)

    def in_background(self) -> Server:
        self._thread = threading.Thread(target=self.serve_forever, name="vortex-ui", daemon=True)
        self._thread.start()
        return self


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request, client_address) -> None:
        """A browser that left is no event."""


class _Handler(BaseHTTPRequestHandler):
    watch: Watch
    files: dict[str, tuple[str, bytes]]
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "vortex", ""
    timeout = 60  # seconds for a browser to say what it wants

    def do_GET(self) -> None:
        host = self.headers.get("Host", "").strip().lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if name not in HOSTS:
            self._refuse(
                403,
                UserError(
                    "ui",
                    f"a request to {HOST} or localhost",
                    repr(host)[:80],
                    "open the address that vortex ui printed",
                ),
            )
            return
        url = urllib.parse.urlsplit(self.path)
        if url.path in self.files:
            self._send(200, *self.files[url.path])
            return
        wanted = {key: values[-1] for key, values in urllib.parse.parse_qs(url.query).items()}
        try:
            self._answer(url.path, wanted)
        except UserError as error:
            self._refuse(404, error)
        except VortexError as error:
            self._refuse(503, error)
        except ConnectionError:  # the browser has left
            raise
        except Exception as error:
            came = f"{type(error).__name__}: {error}"
            self._refuse(
                500, InternalError("ui", "no such failure", came, "this is a defect of Vortex, please report it")
            )

    do_HEAD = do_GET

    def _answer(self, path: str, wanted: dict[str, str]) -> None:
        if path == "/api/studies":
            self._json({"studies": self.watch.studies(), "ledger": str(self.watch.ledger.path)})
        elif path == "/api/study":
            tag, state = self.watch.state(wanted.get("study", ""))
            self._json(state, tag)
        elif path == "/api/frontier":
            self._json({"points": self.watch.frontier(wanted.get("study", ""), _number(wanted, "round"))})
        elif path == "/api/proposal":
            self._json(details(self.watch.open(wanted.get("study", "")), _number(wanted, "id")))
        else:
            raise UserError("ui", "/, /api/studies, /api/study, /api/frontier or /api/proposal", path[:80], "open /")

    def _json(self, value: dict, tag: str = "") -> None:
        self._send(
            200, "application/json", json.dumps(_finite(value), ensure_ascii=False, allow_nan=False).encode(), tag
        )

    def _refuse(self, status: int, error: VortexError) -> None:
        parts = {name: getattr(error, name) for name in ("where", "required", "came", "todo")}
        self._send(status, "application/json", json.dumps({"error": {**parts, "message": str(error)}}).encode())

    def _send(self, status: int, kind: str, body: bytes, tag: str = "") -> None:
        if tag and self.headers.get("If-None-Match") == f'"{tag}"':
            status, body = 304, b""
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        if tag:
            self.send_header("ETag", f'"{tag}"')
        if status != 304:
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Requests of the page itself are no news."""


def _number(wanted: dict[str, str], name: str) -> int:
    text = wanted.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise UserError("ui", f"a whole number {name}", repr(text)[:40], f"say {name}=1")
    return int(text)


def _finite(value):
    """JSON has no infinity: such an end of an interval is null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
