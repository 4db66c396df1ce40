"""What a detector returns: tables, pictures and files."""

from __future__ import annotations

import csv
import io
import json
import pickle
import sys
from functools import partial
from pathlib import Path

import numpy as np
import numpy.testing as npt
import pytest
from PIL import Image

from npmnv2 import Detections
from npmnv2.models.detection import read_photo
from npmnv2.results.detection import Detection


def photo(height: int = 400, width: int = 500) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture
def result() -> Detections:
    boxes = np.array([[10.25, 20, 110.5, 220], [0, 0, 500, 400]], np.float32)
    scores = np.array([0.9631, 0.43], np.float32)
    return Detections(
        boxes, np.array([17, 65]), ("cat", "bed"), scores, (400, 500), "a/000000039769.png", image=photo()
    )


def test_detections_by_rank(result) -> None:
    assert len(result) == 2
    assert result[0] == Detection("cat", 17, float(result.scores[0]), (10.25, 20.0, 110.5, 220.0))
    assert result[-1].label == "bed"
    assert [d.label for d in result] == ["cat", "bed"]
    assert result[1:] == (result[1],)
    with pytest.raises(IndexError):
        result[2]


def test_table(result) -> None:
    assert str(result).splitlines() == [
        "a/000000039769.png  500 × 400 pixels",
        "   96.3%    17      10     20    110    220  cat",
        "   43.0%    65       0      0    500    400  bed",
    ]
    assert repr(result) == "<Detections a/000000039769.png: 96.3% cat, 43.0% bed>"


def test_json_has_the_fields_that_are_promised(result) -> None:
    values = json.loads(result.to_json())
    assert list(values) == ["source", "detections"]
    assert values["source"] == "a/000000039769.png"
    assert values["detections"][0] == {
        "label": "cat", "id": 17, "score": pytest.approx(0.9631), "box": [10.25, 20.0, 110.5, 220.0],
    }  # fmt: skip
    assert "\n" not in result.to_json()


def test_csv(result) -> None:
    rows = list(csv.DictReader(io.StringIO(result.to_csv())))
    assert rows[0] == {
        "source": "a/000000039769.png", "label": "cat", "id": "17", "score": "0.963100",
        "x0": "10.250000", "y0": "20.000000", "x1": "110.500000", "y1": "220.000000",
    }  # fmt: skip
    assert len(result.to_csv(header=False).splitlines()) == 2


def test_coco_counts_width_and_height(result) -> None:
    assert result.to_coco()[0] == {
        "image_id": 39769, "category_id": 17, "bbox": [10.25, 20.0, 100.25, 200.0], "score": pytest.approx(0.9631),
    }  # fmt: skip
    assert result.to_coco(7)[1]["image_id"] == 7
    nameless = Detections(result.boxes, result.ids, result.labels, result.scores, (400, 500), "cat.jpg")
    with pytest.raises(ValueError, match=r"image_id must be given where the file's name \(='cat.jpg'\) has no number"):
        nameless.to_coco()


def test_coco_results_are_read_by_its_own_tools(result) -> None:
    coco = pytest.importorskip("pycocotools.coco").COCO()
    coco.dataset = {"images": [{"id": 39769}], "annotations": [], "categories": [{"id": 17}, {"id": 65}]}
    coco.createIndex()
    assert len(coco.loadRes(result.to_coco()).anns) == 2


def test_nothing_found() -> None:
    nothing = Detections(np.empty((0, 4)), np.empty(0, int), (), np.empty(0), (30, 40), image=photo(30, 40))
    assert str(nothing).splitlines()[1] == "  nothing found"
    assert repr(nothing) == "<Detections: none>"
    assert nothing.to_dict() == {"source": None, "detections": []}
    assert nothing.to_csv().splitlines() == ["source,label,id,score,x0,y0,x1,y1"]
    assert nothing.to_coco(1) == []
    assert nothing.overlay().size == (480, 360)
    with pytest.raises(ValueError, match=r"index \(=0\) must be the rank of one of the 0"):
        nothing.crop()


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_overlay_leaves_the_photo_as_it_is(result) -> None:
    before = result.photo.copy()
    picture = result.overlay()
    assert (picture.mode, picture.size) == ("RGB", (500, 400))
    npt.assert_array_equal(result.photo, before)
    assert (np.asarray(picture) != before).any()


def test_one_class_has_one_color(result) -> None:
    first, second = (result._drawn(detection).color for detection in result)
    assert first != second
    again = Detections(result.boxes, result.ids[::-1], ("bed", "cat"), result.scores, (400, 500))
    assert again._drawn(again[1]).color == first


@pytest.mark.parametrize("name", ["boxes.png", "boxes.JPG", "boxes.webp"])
def test_files(result, tmp_path: Path, name: str) -> None:
    result.save(tmp_path / name)
    with Image.open(tmp_path / name) as image:
        assert image.size == (500, 400)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", ["boxes", "boxes.txt"])
def test_files_of_no_format(result, tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="must end in the suffix of an image format"):
        result.save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_crop_cuts_all_pixels_that_a_box_touches(result) -> None:
    npt.assert_array_equal(np.asarray(result.crop()), result.photo[20:220, 10:111])
    npt.assert_array_equal(np.asarray(result.crop(0, margin=0.1)), result.photo[0:240, 0:121])
    npt.assert_array_equal(np.asarray(result.crop(-1, margin=3)), result.photo)


@pytest.mark.parametrize("margin", [-1, float("nan"), float("inf")])
def test_margins_that_are_none(result, margin: float) -> None:
    with pytest.raises(ValueError, match="margin"):
        result.crop(0, margin=margin)


def test_plot(result) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    axes = result.plot()
    assert axes.get_title() == "000000039769.png"
    assert axes.images[0].get_array().shape == (400, 500, 3)
    assert result.plot(axes) is axes
    pyplot.close("all")


def test_plot_without_matplotlib(result, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'npmnv2\[plot\]'"):
        result.plot()


def test_html_escapes_names(result) -> None:
    html = result._repr_html_()
    assert "data:image/jpeg;base64," in html
    assert "cat" in html
    odd = Detections(result.boxes, result.ids, ("<b>", "&"), result.scores, (400, 500), "<i>.png", image=photo())
    assert "<b>" not in odd._repr_html_()
    assert "<i>" not in odd._repr_html_()


# --- photos that are read again ---------------------------------------------------------------------------------------


@pytest.fixture
def lazy(result, tmp_path: Path) -> Detections:
    path = tmp_path / "1.png"
    Image.fromarray(photo()).save(path)
    read = partial(read_photo, str(path), True, True)
    return Detections(result.boxes, result.ids, result.labels, result.scores, (400, 500), str(path), image=read)


def test_a_file_is_read_when_its_pixels_are_needed(lazy) -> None:
    npt.assert_array_equal(lazy.photo, photo())
    assert lazy.overlay().size == (500, 400)


def test_results_can_be_sent_to_other_processes(lazy, result) -> None:
    for one in (lazy, result):
        other = pickle.loads(pickle.dumps(one))
        assert other.to_dict() == one.to_dict()
        npt.assert_array_equal(other.photo, one.photo)
    assert len(pickle.dumps(lazy)) < 3000, "the pixels stay in the file"


def test_a_file_that_is_gone(lazy) -> None:
    Path(lazy.source).unlink()
    assert "<table" in lazy._repr_html_()
    assert "<img" not in lazy._repr_html_()
    with pytest.raises(FileNotFoundError):
        lazy.overlay()


def test_a_file_that_changed(lazy) -> None:
    Image.new("RGB", (10, 10)).save(lazy.source)
    with pytest.raises(ValueError, match=r"must be the photo of 500 × 400 pixels that was .* now has 10 × 10"):
        lazy.overlay()


def test_detections_without_a_photo(result) -> None:
    bare = Detections(result.boxes, result.ids, result.labels, result.scores, (400, 500))
    with pytest.raises(ValueError, match="image must be given"):
        bare.overlay()
    assert "<img" not in bare._repr_html_()
