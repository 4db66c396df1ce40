"""What stands before the application: who may ask, and the headers that keep a browser from being misled."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import time
from collections.abc import Iterable, Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from npmnv2.serve.metrics import Metrics

# Scripts, styles and pictures from this server alone, and photos that the page itself holds.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
SECURITY_HEADERS = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]

# Without a token these are open: the page, which holds no secret, and what says that the server is alive.
_PROTECTED = ("/v1/", "/metrics")
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class Guard:
    """ASGI middleware.

    Parameters
    ----------
    app : ASGI application
    metrics : Metrics
    paths : iterable of str
        Those of the application; others are counted together.
    host : str
        The address that the server listens on. On a loopback address requests must name it as their host: a website
        whose name was pointed here is sent away.
    token : str, optional
        What requests must show as ``Authorization: Bearer``.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, paths: Iterable[str], host: str, token: str | None = None
    ) -> None:
        self._app, self._metrics, self._paths = app, metrics, frozenset(paths)
        self._names = _LOOPBACK_NAMES | {host.lower()} if is_loopback(host) else None
        self._digest = _digest(token.encode()) if token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on to the application; add headers and count."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500
        if scope["method"] == "HEAD":  # the protocol leaves the body out
            scope = {**scope, "method": "GET"}

        async def guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *SECURITY_HEADERS]
                if scope["path"].startswith(_PROTECTED):
                    message["headers"].append((b"cache-control", b"no-store"))
            await send(message)

        try:
            refusal = self._refusal(scope)
            if refusal is None:
                await self._app(scope, receive, guarded)
            else:
                await _answer(guarded, *refusal)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.count_request(path, status, time.perf_counter() - start)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = dict(scope["headers"])
        if b"content-length" in headers and b"transfer-encoding" in headers:
            return 400, "Content-Length and Transfer-Encoding exclude one another"
        if self._names is not None and _host_name(headers) not in self._names:
            return 421, "this server answers to localhost only; --host lets it listen elsewhere"
        if headers.get(b"sec-fetch-site") == b"cross-site" and scope["method"] != "GET":
            return 403, "requests from other websites are refused"
        if self._digest and scope["path"].startswith(_PROTECTED) and not self._knows_token(headers):
            return 401, "this server needs its token: Authorization: Bearer …"
        return None

    def _knows_token(self, headers: Mapping[bytes, bytes]) -> bool:
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        # Digests have one length, so that the time of the comparison tells nothing.
        return hmac.compare_digest(_digest(token.strip()), self._digest or b"") and scheme.lower() == b"bearer"


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _host_name(headers: Mapping[bytes, bytes]) -> str:
    host = headers.get(b"host", b"").decode("latin-1").lower()
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


async def _answer(send: Send, status: int, detail: str) -> None:
    body = json.dumps({"detail": detail}, ensure_ascii=False).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status == 400:  # where its body ends is anybody's guess
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
