from __future__ import annotations

import distributed
import pytest

from npmnv2 import ArgumentError
from npmnv2.scale import cluster
from npmnv2.scale.cluster import ClusterError, connect


@pytest.mark.parametrize("places", [{}, {"scheduler": "tcp://127.0.0.1:1", "workers": 2}])
def test_either_a_scheduler_or_workers(places: dict) -> None:
    with pytest.raises(ArgumentError, match="either"), connect(**places):
        pass


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nothing://there"])
def test_a_scheduler_that_does_not_answer(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "PATIENCE_SECONDS", 0.5)
    with pytest.raises(ClusterError, match=f"no scheduler answers at {address}.*dask scheduler"), connect(address):
        pass


def test_a_scheduler_without_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "PATIENCE_SECONDS", 0.5)
    options = {"processes": False, "protocol": "tcp", "dashboard_address": ":0"}
    with (
        distributed.LocalCluster(n_workers=0, **options) as empty,
        pytest.raises(ClusterError, match="has no worker"),
        connect(empty.scheduler_address),
    ):
        pass


def test_a_client_is_closed_in_the_end(scheduler: str) -> None:
    with connect(scheduler) as client:
        assert client.submit(sum, [1, 2]).result() == 3
    assert client.status == "closed"
