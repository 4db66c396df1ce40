"""A server in a thread of the tests, on 127.0.0.1, and requests to it."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from PIL import Image


class Answer(NamedTuple):
    """What a server says."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def detail(self) -> str:
        return str(self.json["detail"])

    @property
    def result(self) -> Any:
        """The only result."""
        (result,) = self.json["results"]
        return result


class Site(NamedTuple):
    """A server that runs."""

    port: int
    server: Any

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    def post(self, path: str, body: bytes, kind: str = "image/jpeg", **headers: str) -> Answer:
        return self.ask("POST", path, body, Content_Type=kind, **headers)

    def send(self, path: str, *files: tuple[str, bytes]) -> Answer:
        """Post files as a browser's form does."""
        return self.post(path, form(*files), "multipart/form-data; boundary=limit")

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)


def form(*files: tuple[str, bytes]) -> bytes:
    head = 'Content-Disposition: form-data; name="photo"; filename="{}"\r\nContent-Type: image/png\r\n\r\n'
    parts = (b"--limit\r\n" + head.format(name).encode() + content + b"\r\n" for name, content in files)
    return b"".join(parts) + b"--limit--\r\n"


def head(length: str) -> bytes:
    """What comes before the body of a raw request."""
    return f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n{length}\r\n\r\n".encode()


@contextmanager
def posting(site: Site, photo: bytes, count: int) -> Iterator[list[int]]:
    """Post a photo from as many threads; after the block the statuses of all answers are in the list."""
    statuses: list[int] = []
    clients = [
        threading.Thread(target=lambda: statuses.append(site.post("/v1/predict", photo).status), daemon=True)
        for _ in range(count)
    ]
    for client in clients:
        client.start()
    yield statuses
    for client in clients:
        client.join(120)


@contextmanager
def serving(app: Any, limits: Any) -> Iterator[Site]:
    """Run an application in a thread until the block ends; by then it has answered what it accepted."""
    from npmnv2.serve.server import listen, make_server

    with listen("127.0.0.1", 0) as listener:
        server = make_server(app, limits)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), "the server did not start"
                time.sleep(0.005)
            yield Site(listener.getsockname()[1], server)
        finally:
            server.should_exit = True
            thread.join()


def picture(width: int = 80, height: int = 70, kind: str = "PNG", **options: Any) -> bytes:
    """A photo of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()
