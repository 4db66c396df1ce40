"""What the API says is what the command line says."""

from __future__ import annotations

import base64
import json
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from serving import picture

pytest.importorskip("fastapi")

from npmnv2.cli.main import main
from npmnv2.serve.answers import MAX_FEATURES


@pytest.fixture
def photo_file(tmp_path, photo):
    file = tmp_path / "photo.png"
    file.write_bytes(photo)
    return str(file)


def said(capsys, *arguments: str) -> dict:
    assert main([*arguments]) == 0
    result = json.loads(capsys.readouterr().out)
    return {**result, "source": "photo.png"}


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_results_are_those_of_predict_json(site, capsys, model_files, photo, photo_file, task) -> None:
    answer = site.send(f"/v1/predict?model={task[:8]}", ("photo.png", photo))
    assert answer.result == said(capsys, "predict", photo_file, "-m", model_files[task], "--json")
    assert {key: answer.json[key] for key in ("model", "precision", "task")} == {
        "model": task[:8],
        "precision": "float",
        "task": task,
    }


def test_features_are_those_of_features(site, capsys, model_files, photo, photo_file) -> None:
    model = model_files["classification"]
    answer = site.send("/v1/features", ("photo.png", photo))
    assert answer.result == said(capsys, "features", photo_file, "-m", model)
    answer = site.send("/v1/features?endpoint=block_15&endpoint=block_13_expand", ("photo.png", photo))
    options = ("--endpoint", "block_15", "--endpoint", "block_13_expand")
    assert answer.result == said(capsys, "features", photo_file, "-m", model, *options)


def test_the_number_of_classes_can_be_chosen(site, photo) -> None:
    assert len(site.post("/v1/predict?top_k=2", photo).result["candidates"]) == 2
    assert len(site.post("/v1/predict?top_k=1000", photo).result["candidates"]) == 3
    assert site.post("/v1/predict?top_k=0", photo).status == 422


def test_the_mask_is_the_file_that_predict_writes(site, model_files, photo, photo_file, tmp_path) -> None:
    result = site.post("/v1/predict?model=segmenta&mask=true", photo).result
    assert main(["predict", photo_file, "-m", model_files["segmentation"], "-o", str(tmp_path / "mask.png")]) == 0
    with Image.open(BytesIO(base64.b64decode(result["mask"]))) as ours, Image.open(tmp_path / "mask.png") as file:
        assert ours.mode == "P"
        assert ours.getpalette() == file.getpalette()
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(file))


def test_a_mask_of_a_classifier_is_none(site, photo) -> None:
    assert "mask" not in site.post("/v1/predict?mask=true", photo).result


def test_the_time_of_every_layer(site, catalog, photo) -> None:
    profile = site.post("/v1/predict?profile=true", photo).result["profile"]
    model = catalog.offers["classifi"].model
    assert sum(layer["multiply_adds"] for layer in profile) == model.plan.multiply_adds(64)
    assert all(layer["seconds"] > 0 for layer in profile)


def test_maps_that_are_too_large_to_send(site) -> None:
    photo = picture(400, 400)
    answer = site.post("/v1/features?model=mobilenet_v2_1.0_224_quant&endpoint=block_1_expand", photo)
    assert answer.status == 413
    assert f"more than {MAX_FEATURES}" in answer.detail


def test_an_unknown_endpoint_gets_the_nearest(site, photo) -> None:
    answer = site.post("/v1/features?endpoint=block_13_expnd", photo)
    assert answer.status == 400
    assert "did you mean block_13_expand" in answer.detail


def test_several_photos_in_order(site, photo) -> None:
    others = [picture(70 + i, 65, "BMP") for i in range(3)]
    answer = site.send("/v1/predict", ("a", photo), *((f"b{i}", other) for i, other in enumerate(others)))
    assert [result["source"] for result in answer.json["results"]] == ["a", "b0", "b1", "b2"]
    alone = [site.post("/v1/predict", one).result["candidates"] for one in (photo, *others)]
    assert [result["candidates"] for result in answer.json["results"]] == alone


def test_a_bad_photo_among_several_is_a_row_with_its_error(site, photo) -> None:
    answer = site.send("/v1/predict", ("good.png", photo), ("bad.png", photo[:200]), ("text.txt", b"no photo"))
    good, bad, text = answer.json["results"]
    assert answer.status == 200
    assert "candidates" in good
    assert bad["source"] == "bad.png"
    assert "cut short" in bad["error"]
    assert "no photo in one of the formats" in text["error"]
