"""Who may ask, and what a browser is told."""

from __future__ import annotations

import pytest
from serving import serving

pytest.importorskip("fastapi")

from npmnv2.serve.app import create_app
from npmnv2.serve.guard import is_loopback
from npmnv2.serve.limits import Limits

TOKEN = "käse und brot"


@pytest.fixture(scope="module")
def guarded(catalog):
    limits = Limits()
    with serving(create_app(catalog, limits, host="0.0.0.0", token=TOKEN, workers=1), limits) as site:
        yield site


def bearer(token: str) -> str:
    return f"Bearer {token}".encode().decode("latin-1")


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", bearer(""), bearer("wrong"), bearer(TOKEN + "."), bearer(TOKEN[:-1]), f"Basic {TOKEN}"],
)
@pytest.mark.parametrize("path", ["/v1/predict", "/v1/features", "/v1/models", "/metrics"])
def test_without_the_token_there_is_no_answer(guarded, photo, path, authorization) -> None:
    headers = {"Authorization": authorization.encode().decode("latin-1")} if authorization else {}
    answer = (
        guarded.post(path, photo, **headers) if path[4:] in ("predict", "features") else guarded.get(path, **headers)
    )
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "Authorization: Bearer" in answer.detail


def test_with_the_token_there_is(guarded, photo) -> None:
    assert guarded.post("/v1/predict", photo, Authorization=bearer(TOKEN)).status == 200
    assert guarded.get("/metrics", Authorization=bearer(TOKEN).replace("Bearer", "bearer")).status == 200


@pytest.mark.parametrize("path", ["/", "/app.js", "/healthz", "/openapi.json"])
def test_what_holds_no_secret_needs_no_token(guarded, path) -> None:
    assert guarded.get(path).status == 200


@pytest.mark.parametrize("path", ["/", "/v1/models", "/nowhere", "/openapi.json"])
def test_every_answer_has_headers_for_browsers(site, path) -> None:
    headers = site.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert "server" not in headers
    assert headers.get("cache-control") == ("no-store" if path.startswith("/v1/") else {"/": "no-cache"}.get(path))


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::2]:80"])
def test_a_website_whose_name_points_here_is_sent_away(site, host) -> None:
    assert site.get("/v1/models", Host=host).status == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:8000", "[::1]:8000"])
def test_names_of_this_machine(site, host) -> None:
    assert site.get("/v1/models", Host=host).status == 200


def test_behind_an_open_address_any_name_may_stand(guarded) -> None:
    assert guarded.get("/healthz", Host="photos.example").status == 200


def test_other_websites_may_not_post(site, photo) -> None:
    assert site.post("/v1/predict", photo, Sec_Fetch_Site="cross-site").status == 403
    assert site.post("/v1/predict", photo, Sec_Fetch_Site="same-origin").status == 200
    assert site.get("/", Sec_Fetch_Site="cross-site").status == 200, "but they may link here"


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("a.b", False)],
)
def test_loopback(host, expected) -> None:
    assert is_loopback(host) is expected
