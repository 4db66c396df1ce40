"""An HTTP server on 127.0.0.1 that answers well or as badly as it is told to."""

from __future__ import annotations

import gzip
import hashlib
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


class FaultyServer:
    """Serves ``files``; for a path in ``plans``, answers are taken from its list while there are any."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.plans: dict[str, list[Answer]] = {}
        self.requests: list[tuple[str, str | None]] = []  # path, Range header
        self.headers: list[dict[str, str]] = []
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FaultyServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(server) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append((self.path, self.headers.get("Range")))
                server.headers.append(dict(self.headers))
                plan = server.plans.get(self.path, [])
                answer = plan.pop(0) if plan else well
                content = server.files.get(self.path)
                if content is None:
                    status(404)(self, b"")
                else:
                    answer(self, content)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def stall(self, after: int) -> Answer:
        """Send some bytes, then nothing more, with the connection open."""

        def answer(request: BaseHTTPRequestHandler, content: bytes) -> None:
            _head(request, 200, content)
            request.wfile.write(content[:after])
            request.wfile.flush()
            self.closing.wait(30)

        return answer

    def silence(self) -> Answer:
        """Take the request and never answer."""
        return lambda request, content: self.closing.wait(30) and None


def well(request: BaseHTTPRequestHandler, content: bytes) -> None:
    """Answer as a proper server does, ranges included: If-Range guards a range, and without it any range is sent."""
    _send(request, content, _etag(content))


def with_etag(etag: str | None, after: int | None = None) -> Answer:
    """Answer as a server whose files have this ETag, whatever they hold; close the connection after some bytes."""
    return lambda request, content: _send(request, content, etag, after)


def compressing(request: BaseHTTPRequestHandler, content: bytes) -> None:
    """Compress, as servers do unless they are asked not to."""
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        packed = gzip.compress(content)
        request.send_response(200)
        request.send_header("Content-Encoding", "gzip")
        request.send_header("Content-Length", str(len(packed)))
        request.end_headers()
        request.wfile.write(packed)
    else:
        well(request, content)


def _send(request: BaseHTTPRequestHandler, content: bytes, etag: str | None, after: int | None = None) -> None:
    asked = request.headers.get("Range")
    if asked and request.headers.get("If-Range") in (None, etag):
        start = int(asked.removeprefix("bytes=").rstrip("-"))
        span = f"bytes {start}-{len(content) - 1}/{len(content)}"
        _head(request, 206, content, length=len(content) - start, span=span, etag=etag)
        request.wfile.write(content[start:])
    else:
        _head(request, 200, content, etag=etag)
        request.wfile.write(content[:after])


def cut(after: int) -> Answer:
    """Announce everything, send some, and close the connection."""

    def answer(request: BaseHTTPRequestHandler, content: bytes) -> None:
        _head(request, 200, content)
        request.wfile.write(content[:after])

    return answer


def announce(length: int) -> Answer:
    """Send everything, under a Content-Length that is not true."""

    def answer(request: BaseHTTPRequestHandler, content: bytes) -> None:
        _head(request, 200, content, length=length)
        request.wfile.write(content)

    return answer


def unannounced(request: BaseHTTPRequestHandler, content: bytes) -> None:
    """Send everything, with no Content-Length."""
    request.send_response(200)
    request.end_headers()
    request.wfile.write(content)


def wrong_range(request: BaseHTTPRequestHandler, content: bytes) -> None:
    """Send another part than the one that was asked for."""
    _head(request, 206, content, length=7, span=f"bytes 0-6/{len(content)}")
    request.wfile.write(content[:7])


def instead(body: bytes) -> Answer:
    """Send something else."""
    return lambda request, content: well(request, body)


def status(code: int) -> Answer:
    """Answer with an error."""

    def answer(request: BaseHTTPRequestHandler, content: bytes) -> None:
        _head(request, code, b"")

    return answer


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


def _head(
    request: BaseHTTPRequestHandler,
    code: int,
    content: bytes,
    length: int | None = None,
    span: str = "",
    etag: str | None = "",
) -> None:
    request.send_response(code)
    request.send_header("Content-Length", str(len(content) if length is None else length))
    if etag is not None:
        request.send_header("ETag", etag or _etag(content))
    if span:
        request.send_header("Content-Range", span)
    request.end_headers()
