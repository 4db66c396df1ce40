"""Many clients at once: whatever is accepted is answered, and what is not is told when to come back."""

from __future__ import annotations

import http.client
import statistics
import threading
import time

import pytest
from serving import picture, serving

pytest.importorskip("fastapi")

from npmnv2.serve.app import create_app
from npmnv2.serve.limits import Limits

CLIENTS, SECONDS = 64, 10


class Client(threading.Thread):
    """Posts one photo after the other on one connection, and remembers statuses and times."""

    def __init__(self, port: int, photo: bytes, end: float) -> None:
        super().__init__(daemon=True)
        self._port, self._photo, self._end = port, photo, end
        self.statuses: list[int] = []
        self.seconds: list[float] = []
        self.failures: list[Exception] = []

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            while (start := time.monotonic()) < self._end:
                connection.request("POST", "/v1/predict", self._photo, {"Content-Type": "image/png"})
                response = connection.getresponse()
                response.read()
                self.statuses.append(response.status)
                if response.status == 429:
                    assert response.headers["Retry-After"]
                    time.sleep(0.05)
                else:
                    self.seconds.append(time.monotonic() - start)
        except Exception as error:
            self.failures.append(error)
        finally:
            connection.close()


@pytest.mark.slow
@pytest.mark.parametrize("queue", [64, 24], ids=["room for all", "room for some"])
def test_no_accepted_request_is_lost(catalog, queue, capsys) -> None:
    limits = Limits(queue=queue)
    with serving(create_app(catalog, limits, workers=2), limits) as site:
        end = time.monotonic() + SECONDS
        clients = [Client(site.port, picture(), end) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join(120)
        metrics = site.get("/metrics").body.decode()
    statuses = [status for client in clients for status in client.statuses]
    seconds = [time for client in clients for time in client.seconds]
    assert [failure for client in clients for failure in client.failures] == []
    assert set(statuses) == ({200} if queue == 64 else {200, 429})
    answered = statuses.count(200)
    assert answered > CLIENTS
    assert f'npmnv2_images_total{{model="classifi",outcome="ok",precision="float"}} {answered}.0' in metrics
    p99 = statistics.quantiles(seconds, n=100)[-1]
    with capsys.disabled():
        print(
            f"\n{CLIENTS} clients, queue of {queue}: {answered / SECONDS:.0f} answers/s, {statuses.count(429)} × 429, "
            f"median {1e3 * statistics.median(seconds):.0f} ms, p99 {1e3 * p99:.0f} ms"
        )
