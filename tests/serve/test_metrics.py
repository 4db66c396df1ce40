import re

import pytest
from serving import serving

pytest.importorskip("fastapi")

from npmnv2.serve.app import create_app
from npmnv2.serve.limits import Limits


@pytest.fixture
def values(catalog, photo):
    limits = Limits()
    with serving(create_app(catalog, limits, workers=1), limits) as site:
        site.post("/v1/predict", photo)
        site.send("/v1/predict?model=segmenta", ("a", photo), ("b", b"no photo"))
        site.post("/v1/predict", b"no photo")
        site.get("/secret/of/a/user")
        text = site.get("/metrics").body.decode()
    return dict(re.findall(r"^(npmnv2\S+) (\S+)$", text, re.MULTILINE))


def test_requests_and_images_are_counted(values) -> None:
    assert values['npmnv2_requests_total{path="/v1/predict",status="200"}'] == "2.0"
    assert values['npmnv2_requests_total{path="/v1/predict",status="415"}'] == "1.0"
    assert values['npmnv2_images_total{model="classifi",outcome="ok",precision="float"}'] == "1.0"
    assert values['npmnv2_images_total{model="classifi",outcome="error",precision="float"}'] == "1.0"
    assert values['npmnv2_images_total{model="segmenta",outcome="ok",precision="float"}'] == "1.0"
    assert values['npmnv2_images_total{model="segmenta",outcome="error",precision="float"}'] == "1.0"
    assert values['npmnv2_request_seconds_count{path="/v1/predict"}'] == "3.0"


def test_prometheus_can_read_it(site) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    answer = site.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name: family.type for family in text_string_to_metric_families(answer.body.decode())}
    assert families["npmnv2_requests"] == "counter"
    assert families["npmnv2_request_seconds"] == "histogram"


def test_nothing_waits_runs_or_is_held_afterwards(values) -> None:
    for name in ("npmnv2_images_waiting", "npmnv2_images_running", "npmnv2_held_bytes"):
        assert values[name] == "0.0"


def test_paths_of_clients_make_no_series_of_their_own(values) -> None:
    assert values['npmnv2_requests_total{path="other",status="404"}'] == "1.0"
    assert not any("secret" in name for name in values)
