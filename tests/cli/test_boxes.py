"""``npmnv2 predict`` with a detector: boxes as text and as pictures."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from npmnv2 import MobileNetV2Config, MobileNetV2ForImageClassification, MobileNetV2ForObjectDetection, load
from npmnv2.cli.main import main
from npmnv2.lab.random_weights import unit_gain_weights

SMALL = MobileNetV2Config(image_size=64, depth_multiplier=0.35, num_labels=5)


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("detector")
    weights = unit_gain_weights(MobileNetV2ForObjectDetection.build(SMALL))
    MobileNetV2ForObjectDetection(SMALL, weights, backend="numpy").save_pretrained(path)
    return str(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in (1, 22, 333):
        coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), np.uint8))
        coarse.resize((90, 70)).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path / "photos"


def predict(*arguments) -> int:
    return main(["predict", *map(str, arguments), "--backend", "numpy", "-q"])


def test_one_photo(detector, photos, capsys) -> None:
    picture = photos.parent / "new" / "boxes.png"
    assert predict(photos / "1.png", "-m", detector, "--out", picture) == 0
    result = load(detector, backend="numpy").predict(photos / "1.png")
    assert capsys.readouterr().out == f"{result}\n"
    with Image.open(picture) as image:
        np.testing.assert_array_equal(np.asarray(image), np.asarray(result.overlay()))


def test_json_of_a_folder(detector, photos, capsys) -> None:
    assert predict(photos, "-m", detector, "--json", "-o", photos.parent / "seen") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(line["source"]).name for line in lines] == ["1.png", "22.png", "333.png"]
    for line in lines:
        assert list(line) == ["source", "detections"]
        assert list(line["detections"][0]) == ["label", "id", "score", "box"]
        scores = [detection["score"] for detection in line["detections"]]
        assert scores == sorted(scores, reverse=True)
    assert sorted(path.name for path in (photos.parent / "seen").iterdir()) == ["1.jpg", "22.jpg", "333.jpg"]


def test_csv_has_one_header(detector, photos, capsys) -> None:
    assert predict(photos, "-m", detector, "--csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {Path(row["source"]).name for row in rows} == {"1.png", "22.png", "333.png"}
    assert list(rows[0]) == ["source", "label", "id", "score", "x0", "y0", "x1", "y1"]


def test_coco_is_one_list(detector, photos, capsys) -> None:
    assert predict(photos, "-m", detector, "--coco", "--max-detections", 2) == 0
    results = json.loads(capsys.readouterr().out)
    assert [result["image_id"] for result in results] == [1, 1, 22, 22, 333, 333]


def test_options_reach_the_model(detector, photos, capsys) -> None:
    options = ["--threshold", "0.3", "--iou", "0.2", "--nms", "agnostic", "--max-detections", "5"]
    assert predict(photos / "1.png", "-m", detector, "--json", *options) == 0
    result = load(detector, backend="numpy").predict(
        photos / "1.png", threshold=0.3, iou=0.2, nms="agnostic", max_detections=5
    )
    assert json.loads(capsys.readouterr().out)["detections"] == result.to_dict()["detections"]


def test_a_photo_on_standard_input_has_its_picture(detector, photos, capsys, monkeypatch) -> None:
    content = (photos / "1.png").read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert predict("-", "-m", detector, "--json", "-o", photos.parent / "seen.png") == 0
    assert json.loads(capsys.readouterr().out)["source"] == "-"
    assert (photos.parent / "seen.png").is_file()


def test_one_bad_photo_spares_the_others(detector, photos, capsys) -> None:
    (photos / "22.png").write_bytes(b"no photo")
    assert predict(photos, "-m", detector, "--json") == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    assert "22.png" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--flip"], "--flip must be left out: this model is for detection"),
        (["-k", "3", "--overlay", "x.png"], "--overlay, --top-k must be left out: this model is for detection"),
        (["-o", "boxes.txt"], "must end in the suffix of an image format"),
    ],
)
def test_mistakes(detector, photos, capsys, options, message, monkeypatch) -> None:
    monkeypatch.chdir(photos.parent)
    assert predict(photos / "1.png", "-m", detector, *options) == 1
    assert message in capsys.readouterr().err
    assert [path.name for path in photos.parent.iterdir()] == ["photos"]


@pytest.mark.parametrize("option", ["--threshold", "--iou"])
@pytest.mark.parametrize("value", ["1.1", "-1", "nan", "half"])
def test_numbers_that_are_no_shares(detector, photos, capsys, option, value) -> None:
    with pytest.raises(SystemExit, match="2"):
        predict(photos, "-m", detector, f"{option}={value}")
    assert "must be a number from 0 to 1" in capsys.readouterr().err


def test_options_of_detection_for_a_classifier(photos, capsys, tmp_path) -> None:
    MobileNetV2ForImageClassification(SMALL, seed=0, backend="numpy").save_pretrained(tmp_path / "m")
    assert predict(photos, "-m", tmp_path / "m", "--max-detections", "3", "--coco") == 1
    assert "--coco, --max-detections must be left out: this model is for classification" in capsys.readouterr().err
