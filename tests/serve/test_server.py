"""Slow clients, many clients, and a stop in the middle."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time

import pytest
from serving import Site, posting, serving

pytest.importorskip("fastapi")

from npmnv2.serve.app import create_app
from npmnv2.serve.limits import Limits
from npmnv2.serve.server import listen

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def hasty(catalog):
    """A server that waits a moment for headers."""
    limits = Limits(header_seconds=0.3)
    with serving(create_app(catalog, limits, workers=1), limits) as site:
        yield site


@pytest.mark.parametrize("sent", [b"", GET[:20], GET[:-2]], ids=["nothing", "a line", "no end"])
def test_headers_that_do_not_end_are_given_up(hasty, sent) -> None:
    with hasty.connect() as client:
        client.sendall(sent)
        answer = client.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_so_are_those_of_a_later_request(hasty) -> None:
    with hasty.connect() as client:
        client.sendall(GET)
        first = http.client.HTTPResponse(client)
        first.begin()
        assert first.read() == b'{"status":"ok"}'
        client.sendall(GET[:20])
        assert client.makefile("rb").read().startswith(b"HTTP/1.1 408 ")


def test_drops_of_headers_gain_no_time(hasty) -> None:
    def drip(client: socket.socket) -> None:
        for _ in range(1000):
            client.sendall(b"X: y\r\n")
            time.sleep(0.05)

    with hasty.connect() as client, pytest.raises(OSError, match=r"reset|Broken|aborted"):
        drip(client)


def test_connections_beyond_the_limit_are_answered(catalog) -> None:
    limits = Limits(connections=3)  # which wait for headers so long that none is given up
    with serving(create_app(catalog, limits, workers=1), limits) as site:
        clients = [site.connect() for _ in range(3)]
        while len(site.server.server_state.connections) < 3:
            time.sleep(0.005)
        with site.connect() as late:
            answer = late.makefile("rb").read().decode()
        for client in clients:
            client.close()
        assert answer.startswith("HTTP/1.1 503 ")
        assert "Retry-After: 1" in answer
        while site.server.server_state.connections:
            time.sleep(0.005)
        assert site.get("/healthz").status == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # the start of TLS
        b"GET / HTTP/1.1\r\n\r\n",  # no host
        b"GET / HTTP/1.1\r\n" + b"X: " + bytes(200_000),
    ],
)
def test_what_is_no_http_is_refused(hasty, sent, caplog) -> None:
    with hasty.connect() as client:
        client.sendall(sent)
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert (answer.status, json.load(answer)["detail"]) == (400, "this is no HTTP request that can be read")
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert caplog.text == ""


def test_a_body_of_two_lengths_is_refused_with_its_connection(site) -> None:
    """The rest of such a request might be taken for the next one."""
    lengths = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    with site.connect() as client:
        client.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n" + lengths + GET)
        answer = client.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1


class Slow:
    """A catalog whose model waits for the test."""

    def __init__(self, catalog) -> None:
        self.catalog, self.offers, self.choose = catalog, catalog.offers, catalog.choose
        self.entered, self.go = threading.Semaphore(0), threading.Event()

    def model(self, choice, alone):
        self.entered.release()
        assert self.go.wait(60)
        return self.catalog.model(choice, alone)


def test_a_full_queue_says_when_to_come_back(catalog, photo) -> None:
    limits, slow = Limits(images=1, queue=2), Slow(catalog)
    with serving(create_app(slow, limits, workers=1), limits) as site, posting(site, photo, 1) as first:
        assert slow.entered.acquire(timeout=60)
        with posting(site, photo, 2) as others:
            _until_waiting(site, 2)
            refused = site.post("/v1/predict", photo)
            slow.go.set()
    assert refused.status == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert [*first, *others] == [200, 200, 200]


def _until_waiting(site: Site, count: int) -> None:
    while f"npmnv2_images_waiting {count}.0".encode() not in site.get("/metrics").body:
        time.sleep(0.01)


def test_an_answer_that_is_not_ready_in_time(catalog, photo) -> None:
    limits, slow = Limits(seconds=0.2), Slow(catalog)
    with serving(create_app(slow, limits, workers=1), limits) as site:
        answer = site.post("/v1/predict", photo)
        slow.go.set()
    assert answer.status == 503
    assert answer.detail == "the answer was not ready within 0.2 s"
    assert answer.headers["retry-after"] == "1"


def test_a_server_that_stops_answers_what_it_has_accepted(catalog, photo) -> None:
    limits, slow = Limits(), Slow(catalog)
    with serving(create_app(slow, limits, workers=1), limits) as site, posting(site, photo, 1) as first:
        assert slow.entered.acquire(timeout=60)
        with posting(site, photo, 4) as others:
            _until_waiting(site, 4)
            site.server.should_exit = True
            while not _refuses(site):
                time.sleep(0.01)
            assert [*first, *others] == []
            slow.go.set()
    assert [*first, *others] == [200] * 5


def _refuses(site: Site) -> bool:
    try:
        site.connect().close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_client_that_leaves_is_no_failure(site, photo, caplog) -> None:
    with site.connect() as client:
        head = (
            b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 100000\r\n\r\n"
        )
        client.sendall(head + photo)
        while not _held(site):
            time.sleep(0.005)
    while _held(site):
        time.sleep(0.005)
    assert site.post("/v1/predict", photo).status == 200
    assert caplog.text == ""


def _held(site: Site) -> bool:
    return b"npmnv2_held_bytes 0.0" not in site.get("/metrics").body


def test_one_connection_serves_many_requests(site, photo) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    for _ in range(3):
        connection.request("POST", "/v1/predict", photo, {"Content-Type": "image/png"})
        assert connection.getresponse().read()
    connection.close()


def test_a_port_that_is_taken() -> None:
    with listen("127.0.0.1", 0) as first:
        first.listen()
        port = first.getsockname()[1]
        with pytest.raises(OSError, match=rf"cannot listen on 127.0.0.1 port {port}: .*; --port chooses another"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize("host", ["::zz", "192.0.2.1", "a" * 64 + ".b"])
def test_an_address_that_is_not_here(host) -> None:
    with pytest.raises(OSError, match=rf"cannot listen on '?{host}.*; --host must be an address of this machine"):
        listen(host, 0)


def test_an_address_of_the_sixth_version() -> None:
    if not socket.has_ipv6:
        pytest.skip("needs IPv6")
    try:
        with listen("::1", 0) as listener:
            assert listener.family == socket.AF_INET6
    except OSError:
        pytest.skip("needs IPv6")
