"""The server: an application on a socket, patient with slow clients within limits, and done before it goes."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from errno import EADDRNOTAVAIL
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from npmnv2.memory import keep_freed_memory
from npmnv2.serve.guard import SECURITY_HEADERS
from npmnv2.serve.limits import Limits

# Seconds that an idle connection is kept, and that a client may take to read an answer.
_IDLE_SECONDS = 5
_READ_SECONDS = 60

_HOST_HINT = "--host must be an address of this machine"
_SECURITY = b"".join(b"%s: %s\r\n" % header for header in SECURITY_HEADERS)


def listen(host: str, port: int) -> socket.socket:
    """A socket on an address; port 0 is any that is free.

    Raises
    ------
    OSError
        If the address is not this machine's, or the port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:  # the latter for names with empty or very long parts
        raise OSError(f"cannot listen on {host!r}: {error}; {_HOST_HINT}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        hint = _HOST_HINT if error.errno == EADDRNOTAVAIL else "--port chooses another"
        raise OSError(f"cannot listen on {host} port {port}: {error.strerror}; {hint}") from None
    return listener


def make_server(app: Any, limits: Limits) -> uvicorn.Server:
    """A server for `app` whose clients are bound by `limits`.

    On SIGINT or SIGTERM it accepts nothing more, answers what it has accepted, and stops.
    """
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    config = uvicorn.Config(
        app,
        http=_protocol(limits),
        ws="none",
        log_config=None,
        log_level=logging.ERROR,  # a client's mistake is answered, and nothing to print
        access_log=False,
        server_header=False,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=int(limits.body_seconds + limits.seconds) + 1,
    )
    return uvicorn.Server(config)


def _protocol(limits: Limits) -> type[H11Protocol]:
    """The protocol of uvicorn, which waits for headers as long as it takes, with an end to that."""

    class Protocol(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > limits.connections:
                self._refuse(b"503 Service Unavailable", b"too many connections", b"Retry-After: 1\r\n")
            else:
                self._await_headers()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._stop_timer()
            elif self._timer is None and self.timeout_keep_alive_task is None:
                self._await_headers()  # of the next request, which has begun

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        def send_400_response(self, msg: str) -> None:
            self._refuse(b"400 Bad Request", b"this is no HTTP request that can be read")

        def timeout_keep_alive_handler(self) -> None:
            super().timeout_keep_alive_handler()
            # Closing waits until the last answer is read.
            self.loop.call_later(_READ_SECONDS, self.transport.abort)

        def _await_headers(self) -> None:
            def give_up() -> None:
                self._refuse(b"408 Request Timeout", b"the request's headers did not arrive in time")

            self._timer = self.loop.call_later(limits.header_seconds, give_up)

        def _stop_timer(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _refuse(self, status: bytes, detail: bytes, headers: bytes = b"") -> None:
            if not self.transport.is_closing():
                body = b'{"detail": "%s"}' % detail
                head = b"Content-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n" % len(body)
                self.transport.write(b"HTTP/1.1 %s\r\n%s%s%s\r\n%s" % (status, head, headers, _SECURITY, body))
                self.transport.close()

    return Protocol


def run(app: Any, listener: socket.socket, limits: Limits, ready: Callable[[], None] = lambda: None) -> None:
    """Serve until a signal asks to stop."""
    keep_freed_memory()
    server = make_server(app, limits)
    listener.listen()
    ready()
    server.run(sockets=[listener])
