"""The paths of the server; what they say is in the other files."""

import pytest

pytest.importorskip("fastapi")


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


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/nowhere", "/..%2fpyproject.toml"])
def test_paths_that_are_not_there(site, path) -> None:
    assert site.get(path).status == 404


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
