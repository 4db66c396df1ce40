"""The paths of the server; what they say is in the other files."""

import re

import pytest
from serving import serving

pytest.importorskip("fastapi")

from npmnv2.serve.app import create_app
from npmnv2.serve.limits import Limits


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
        ("/cat.jpg", "image/jpeg"),
    ],
)
def test_files_of_the_page(site, path, kind) -> None:
    answer = site.get(path)
    assert (answer.status, answer.headers["content-type"]) == (200, kind)


def test_the_page_takes_nothing_from_elsewhere(site) -> None:
    for path in ("/", "/app.js", "/style.css"):
        text = site.get(path).body.decode().replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text
        assert "https:" not in text
        assert "@import" not in text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colors_of_the_page_have_the_contrast_that_wcag_asks_for(site, scheme) -> None:
    """4.5 for text, 3 for the edges of what can be pressed."""
    style = site.get("/style.css").body.decode()
    light, dark = (dict(re.findall(r"--([\w-]+): (#\w{6});", part)) for part in style.split("prefers-color-scheme", 1))
    colors = light | (dark if scheme == "dark" else {})
    pairs = [(text, ground) for text in ("ink", "soft", "accent", "wrong") for ground in ("card", "ground")]
    for text, ground in [*pairs, ("on-accent", "accent"), ("ink", "bar")]:
        assert contrast(colors[text], colors[ground]) >= 4.5, (text, ground)
    for ground in ("card", "ground"):
        assert contrast(colors["edge"], colors[ground]) >= 3


def contrast(first: str, second: str) -> float:
    """That of two colors, as WCAG defines it."""
    low, high = sorted(map(luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)


def luminance(color: str) -> float:
    parts = (int(color[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear))


def test_health(site) -> None:
    assert site.get("/healthz").json == {"status": "ok"}


def test_models(site) -> None:
    classifier, segmenter, quantized = site.get("/v1/models").json["models"]
    assert classifier == {
        "name": "classifi", "task": "classification", "precisions": ["float"], "image_size": 64, "classes": 3,
        "backend": classifier["backend"], "colors": [],
    }  # fmt: skip
    assert quantized["precisions"] == ["integer", "float"]
    assert len(set(segmenter["colors"])) == 22


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/nowhere", "/..%2fpyproject.toml", "/v1/models/", "//healthz"])
def test_paths_that_are_not_there(site, path) -> None:
    answer = site.get(path)
    assert (answer.status, answer.detail) == (404, "Not Found")


@pytest.mark.parametrize("path", ["/", "/healthz", "/v1/models", "/metrics", "/openapi.json"])
def test_head_tells_what_get_would(site, path) -> None:
    head, get = site.ask("HEAD", path), site.get(path)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"]


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "DELETE"])
def test_methods_that_are_not_there(site, method) -> None:
    answer = site.ask(method, "/v1/predict")
    assert (answer.status, answer.headers["allow"], answer.detail) == (405, "POST", "Method Not Allowed")


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("top_k=0", "top_k (='0'): should be greater than or equal to 1"),
        ("top_k=1002", "top_k (='1002'): should be less than or equal to 1001"),
        ("top_k=many", "top_k (='many'): should be a valid integer"),
        ("threshold=nan", "threshold (='nan'): should be "),
        ("threshold=-1", "threshold (='-1'): should be greater than or equal to 0"),
        ("mask=perhaps", "mask (='perhaps'): should be a valid boolean"),
        ("top_k=0&threshold=2", "; threshold (='2'): "),
    ],
)
def test_arguments_of_a_wrong_type_or_size_are_named_in_one_sentence(site, photo, query, detail) -> None:
    answer = site.post(f"/v1/predict?{query}", photo)
    assert answer.status == 422
    assert detail in answer.detail
    assert isinstance(answer.json["detail"], str)


def test_a_failure_of_the_server_has_the_form_of_every_error(catalog, photo, caplog) -> None:
    class Broken:
        offers, choose = catalog.offers, catalog.choose

        def model(self, choice, alone):
            raise RuntimeError("a secret")

    limits = Limits()
    with serving(create_app(Broken(), limits, workers=1), limits) as site:
        answer = site.post("/v1/predict", photo)
    assert (answer.status, answer.detail) == (500, "the server failed; what it printed says why")
    assert "a secret" in caplog.text


def test_models_and_precisions_that_are_not_there(site, photo) -> None:
    for query in ("model=nothing", "model=../../etc/passwd", "precision=integer", "precision=double"):
        answer = site.post(f"/v1/predict?{query}", photo)
        assert answer.status == 400
        assert " must be " in answer.detail


def test_precision_switches_the_arithmetic(site, photo) -> None:
    path = "/v1/predict?model=mobilenet_v2_1.0_224_quant&precision="
    integer, simulated = (site.post(path + precision, photo) for precision in ("integer", "float"))
    assert (integer.json["precision"], simulated.json["precision"]) == ("integer", "float")
    assert integer.result["candidates"] != simulated.result["candidates"]
