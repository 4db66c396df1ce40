"""``npmnv2 predict`` with a segmentation model: masks, overlays and legends."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.testing as npt
import pytest
from PIL import Image

from npmnv2 import MobileNetV2Config, MobileNetV2ForImageClassification, MobileNetV2ForSemanticSegmentation, load
from npmnv2.cli.main import main
from npmnv2.lab.random_weights import unit_gain_weights
from npmnv2.labels import segmentation_labels
from npmnv2.network.deeplab import segmenter

VOC = dict(enumerate(segmentation_labels("voc")))
SMALL = MobileNetV2Config(image_size=64, depth_multiplier=0.35, output_stride=16, id2label=VOC)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("model")
    weights = unit_gain_weights(segmenter(SMALL))
    MobileNetV2ForSemanticSegmentation(SMALL, weights, backend="numpy").save_pretrained(path)
    return str(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b.JPG", "c.bmp"):
        coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), np.uint8))
        coarse.resize((90, 70)).save(tmp_path / "photos" / name)
    return tmp_path


def predict(*arguments):
    return main(["predict", *map(str, arguments), "--backend", "numpy", "-q"])


def test_one_photo(model, folder, capsys):
    photo, mask, overlay = folder / "photos" / "a.png", folder / "mask.png", folder / "new" / "overlay.webp"
    assert predict(photo, "-m", model, "--out", mask, "--overlay", overlay) == 0
    result = load(model, backend="numpy").predict(photo)
    assert capsys.readouterr().out == f"{result}\n"
    with Image.open(mask) as image:
        npt.assert_array_equal(np.asarray(image), result.label_map)
    with Image.open(overlay) as image:
        assert (image.format, image.size) == ("WEBP", (90, 70))


def test_folders(model, folder, capsys):
    assert predict(folder / "photos", "-m", model, "--json", "-o", folder / "masks", "--overlay", folder / "seen") == 0
    legends = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(legend["source"]).name for legend in legends] == ["a.png", "b.JPG", "c.bmp"]
    assert sorted(p.name for p in (folder / "masks").iterdir()) == ["a.png", "b.png", "c.png"]
    assert sorted(p.name for p in (folder / "seen").iterdir()) == ["a.jpg", "b.jpg", "c.jpg"]
    for legend in legends:
        with Image.open(folder / "masks" / f"{Path(legend['source']).stem}.png") as mask:
            counts = np.bincount(np.asarray(mask).reshape(-1))
        assert {r["index"]: r["pixels"] for r in legend["legend"]} == {i: n for i, n in enumerate(counts) if n}


@pytest.mark.parametrize("option", ["--out", "--overlay"])
def test_a_file_for_several_photos(model, folder, capsys, option):
    assert predict(folder / "photos", "-m", model, option, folder / "x.png") == 1
    assert "x.png must be a folder where there are 3 photos" in capsys.readouterr().err
    assert not (folder / "x.png").exists()


def test_one_bad_photo_spares_the_others(model, folder, capsys):
    (folder / "photos" / "b.JPG").write_bytes(b"not a photo")
    assert predict(folder / "photos", "-m", model, "-o", folder / "masks") == 1
    assert sorted(p.name for p in (folder / "masks").iterdir()) == ["a.png", "c.png"]
    assert "b.JPG" in capsys.readouterr().err


def test_options_reach_the_model(model, folder):
    photo, mask = folder / "photos" / "a.png", folder / "mask.png"
    assert predict(photo, "-m", model, "-o", mask, "--transform", "hf", "--scales", "0.75,1", "--flip") == 0
    ref = load(model, backend="numpy").predict(photo, transform="hf", scales=(0.75, 1), flip=True)
    with Image.open(mask) as image:
        npt.assert_array_equal(np.asarray(image), ref.label_map)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photos", "-o", "photos"], "a.png must not be written: it is a photo"),
        (["photos/a.png", "photos/b.JPG", "more/b.png", "-o", "masks"], "b.png must not be written: it would be"),
        (["photos/a.png", "-o", "x.png", "--overlay", "x.png"], "x.png must not be written: it would be"),
        (["photos/a.png", "-o", "mask.jpg"], "must end in .png"),
        (["photos/a.png", "-k", "3"], "--top-k must be left out: this model is for segmentation"),
    ],
)
def test_mistakes(model, folder, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    (folder / "more").mkdir()
    (folder / "photos" / "a.png").rename(folder / "more" / "b.png")
    Image.new("RGB", (40, 40)).save(folder / "photos" / "a.png")
    before = {p: p.read_bytes() for p in folder.rglob("*.*")}
    assert predict(*arguments, "-m", model) == 1
    out, err = capsys.readouterr()
    assert message in err
    assert out == ""
    assert {p: p.read_bytes() for p in folder.rglob("*.*")} == before


@pytest.mark.parametrize("scales", ["", "1;2", "one", "0", "1,-1", "inf", "nan"])
def test_scales_that_are_no_numbers(model, folder, capsys, scales):
    with pytest.raises(SystemExit, match="2"):
        predict(folder / "photos", "-m", model, "--scales", scales)
    assert "numbers above 0 with commas" in capsys.readouterr().err


def test_masks_of_a_classifier(folder, capsys, tmp_path):
    MobileNetV2ForImageClassification(SMALL, seed=0, backend="numpy").save_pretrained(tmp_path / "m")
    assert predict(folder / "photos", "-m", tmp_path / "m", "-o", folder / "masks", "--flip") == 1
    assert "--flip, --out must be left out: this model is for classification" in capsys.readouterr().err
