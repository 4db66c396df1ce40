from __future__ import annotations

import functools
import http.server
import io
import threading
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import PIL
import pytest

from npmnv2 import ArgumentError, ArgumentTypeError, MobileNetV2Config, MobileNetV2Model
from npmnv2.scale.job import Job, versions
from npmnv2.scale.listing import list_photos
from npmnv2.scale.photos import NamedPhoto
from npmnv2.scale.table import pyarrow


def names_of(photos: Path) -> list[str]:
    return [str(path) for path in sorted(photos.rglob("*.png"))]


def test_rows_are_what_predict_gives(model: Any, photos: Path) -> None:
    names = names_of(photos)
    rows = list(Job(model, top_k=2).rows(names))
    expected = model.predict(names, top_k=2, errors="return")
    assert [row["source"] for row in rows] == names
    for row, result in zip(rows, expected, strict=True):
        assert row.get("candidates") == (None if isinstance(result, Exception) else result.to_dict()["candidates"])
    (bad,) = [row for row in rows if "error" in row]
    assert bad["error"].startswith(f"ImageError: {bad['source']} is not an image")


def test_rows_are_the_same_from_any_file_system(model: Any, photos: Path) -> None:
    names, store = names_of(photos), fsspec.filesystem("memory")
    for name in names:
        store.pipe_file(name, Path(name).read_bytes())
    local = list(Job(model).rows(names))
    remote = list(Job(model).rows([f"memory://{name}" for name in names]))
    for row in remote:
        assert row["source"].startswith("memory:///")
        row["source"] = row["source"].removeprefix("memory://")
        if "error" in row:
            row["error"] = row["error"].replace("memory://", "")
    assert remote == local


def test_rows_over_http(model: Any, photos: Path) -> None:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(photos))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        good, gone = Job(model).rows(list(list_photos([f"{url}/0/00.png", f"{url}/0/99.png"])))
        server.shutdown()
    (expected,) = Job(model).rows([str(photos / "0" / "00.png")])
    assert good == {**expected, "source": f"{url}/0/00.png"}
    assert gone["error"] == f"FileNotFoundError: {url}/0/99.png"


def test_a_part_counts_what_failed(model: Any, photos: Path) -> None:
    content, failed = Job(model).part(names_of(photos))
    table = pyarrow().parquet.read_table(io.BytesIO(content))
    assert (len(table), table["error"].null_count, failed) == (12, 11, 1)


def test_features_are_rows(model: Any, photos: Path) -> None:
    names = names_of(photos)[:2]
    job = Job(model, features=True)
    for row, expected in zip(job.rows(names), model.features(names), strict=True):
        np.testing.assert_array_equal(row["features"], expected)


def test_masks_are_of_segmentation_models(model: Any, segmenter: Any, photos: Path) -> None:
    (row,) = Job(segmenter, masks=True, batch_size=1).rows(names_of(photos)[:1])
    assert row["mask"].startswith(b"\x89PNG")
    with pytest.raises(ArgumentError, match="masks must be left out"):
        Job(model, masks=True)


def test_a_photo_that_is_gone_is_a_row(model: Any, tmp_path: Path) -> None:
    (row,) = Job(model).rows([str(tmp_path / "gone.jpg")])
    assert row["error"].startswith("FileNotFoundError: ")


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), TimeoutError("slow"), OSError(5, "I/O")])
def test_a_photo_that_cannot_be_read_now_is_no_row(model: Any, error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("npmnv2.scale.job.Reader.photos", lambda self, names: [NamedPhoto("a.jpg", error)])
    with pytest.raises(type(error)):
        list(Job(model).rows(["a.jpg"]))


def test_the_fingerprint_is_of_the_bits(model: Any) -> None:
    assert Job(model).fingerprint() == Job(model).fingerprint() != Job(model, top_k=1).fingerprint()
    weights = {**model.weights, "predictions/bias": model.weights["predictions/bias"] + np.float32(1e-6)}
    other = type(model)(model.config, weights, processor=model.processor, n_threads=1)
    assert Job(other).fingerprint() != Job(model).fingerprint()


def test_a_backbone_gives_features_alone() -> None:
    backbone = MobileNetV2Model(MobileNetV2Config(depth_multiplier=0.35, image_size=64), seed=0)
    assert Job(backbone, features=True).task == "features"
    with pytest.raises(ArgumentError, match="no head"):
        Job(backbone)


def test_what_is_not_a_model_is_an_error() -> None:
    with pytest.raises(ArgumentTypeError, match="str"):
        Job("mobilenet_v2_1.0_224")  # type: ignore[arg-type]


def test_versions_are_of_what_makes_bytes() -> None:
    found = versions()
    assert found["pillow"] == PIL.__version__
    assert {"npmnv2", "numpy", "pyarrow", "jpg"} <= set(found)
