"""What a segmentation model returns: tables, pictures and files."""

from __future__ import annotations

import csv
import io
import json
import sys

import numpy as np
import numpy.testing as npt
import pytest
from PIL import Image

from npmnv2 import Segmentation
from npmnv2.labels import color_map, segmentation_labels
from npmnv2.results.segmentation import colors_for


def photo(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def result():
    label_map = np.zeros((4, 6), np.int32)
    label_map[1:3, 2:5] = 15
    label_map[0, 0] = 3
    return Segmentation(label_map, segmentation_labels("voc"), photo(4, 6), "a.jpg")


def test_legend(result):
    assert [(r.index, r.label, r.pixels) for r in result.legend] == [
        (0, "background", 17), (15, "person", 6), (3, "bird", 1),
    ]  # fmt: skip
    assert sum(r.share for r in result.legend) == pytest.approx(1)
    assert result.legend[1].color == "#c08080"


def test_table(result):
    assert str(result).splitlines() == [
        "a.jpg  6 × 4 pixels",
        "   70.8%     0  #000000  background",
        "   25.0%    15  #c08080  person",
        "    4.2%     3  #808000  bird",
    ]


def test_plain_data(result):
    values = json.loads(result.to_json())
    assert (values["source"], values["width"], values["height"]) == ("a.jpg", 6, 4)
    assert values["legend"][1] == {"index": 15, "label": "person", "color": "#c08080", "pixels": 6, "share": 0.25}
    rows = list(csv.DictReader(io.StringIO(result.to_csv())))
    assert rows[1] == {
        "source": "a.jpg", "index": "15", "label": "person", "color": "#c08080", "pixels": "6", "share": "0.250000",
    }  # fmt: skip


def test_overlay_mixes_photo_and_colors(result):
    plain = {"outlines": False, "legend": False}
    people, background = result.label_map == 15, result.label_map == 0
    for palette, colors in (("dataset", result.colors), ("display", result.display_colors)):
        picture = np.asarray(result.overlay(0.5, palette=palette, **plain))
        npt.assert_array_equal(picture[background], result.photo[background])
        npt.assert_allclose(picture[people], np.add(result.photo[people], colors[15].astype(float)) / 2, atol=0.5)
        npt.assert_array_equal(np.asarray(result.overlay(0, palette=palette, **plain)), result.photo)
        solid = np.asarray(result.overlay(1, palette=palette, **plain))
        npt.assert_array_equal(solid[people], np.broadcast_to(colors[15], (6, 3)))


@pytest.mark.parametrize("alpha", [0.1, 0.3, 0.5, 0.9])
def test_mixed_pixels_are_rounded_to_the_nearest(alpha):
    """Every value of the photo under every weight: neither cut off nor rounded up."""
    ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    result = Segmentation(np.zeros((16, 16), np.int32), ("thing",), ramp)
    picture = np.asarray(result.overlay(alpha, palette="dataset", outlines=False, legend=False))
    weight = round(256 * alpha) / 256
    exact = ramp * (1 - weight) + result.colors[0] * weight
    npt.assert_array_equal(picture, np.floor(exact + 0.5))


def test_outlines_are_in_full_color_on_white(result):
    label_map = np.zeros((20, 20), np.int32)
    label_map[5:15, 5:15] = 15
    square = Segmentation(label_map, result.labels, photo(20, 20))
    picture = np.asarray(square.overlay(0.5, legend=False))
    npt.assert_array_equal(picture[5, 5:15], np.broadcast_to(square.display_colors[15], (10, 3)))
    npt.assert_array_equal(picture[4, 5:15], 255)
    npt.assert_array_equal(picture[3], square.photo[3])
    inner = np.asarray(square.overlay(0.5, legend=False, outlines=False))
    npt.assert_array_equal(picture[6:14, 6:14], inner[6:14, 6:14])


def test_impossible_overlays(result):
    with pytest.raises(ValueError, match=r"alpha \(=1.5\)"):
        result.overlay(1.5)
    with pytest.raises(ValueError, match=r"palette \(='rainbow'\) must be one of display, dataset"):
        result.overlay(palette="rainbow")


def test_the_photo_is_not_drawn_on(result):
    before = result.photo.copy()
    result.overlay()
    result.cutout("person")
    npt.assert_array_equal(result.photo, before)


def test_mask_of_a_class(result):
    npt.assert_array_equal(result.mask("person"), result.label_map == 15)
    npt.assert_array_equal(result.mask(3), result.label_map == 3)
    assert not result.mask("dog").any()
    assert result.mask("dog").dtype == bool


@pytest.mark.parametrize("label", ["persn", 21, -1, True, None, 1.0])
def test_classes_that_are_none(result, label):
    with pytest.raises(ValueError, match=r"label \(=.*\) must be the name or number of one of the 21 classes"):
        result.mask(label)
    if label == "persn":
        with pytest.raises(ValueError, match="such as person"):
            result.mask(label)


def test_cutout(result):
    person = result.cutout("person")
    assert (person.mode, person.size) == ("RGBA", (3, 2))
    npt.assert_array_equal(np.asarray(person)[..., :3], result.photo[1:3, 2:5])
    whole = np.asarray(result.cutout(15, crop=False))
    npt.assert_array_equal(whole[..., 3] == 255, result.mask("person"))
    npt.assert_array_equal(whole[..., 3] == 0, ~result.mask("person"))
    with pytest.raises(ValueError, match=r"label \(='dog'\) must be a class that occurs: background, person, bird"):
        result.cutout("dog")


def test_show_opens_the_overlay(result, monkeypatch):
    shown = []
    monkeypatch.setattr(Image.Image, "show", lambda self, title=None: shown.append((self.size, title)))
    result.show()
    assert shown == [((6, 4), "a.jpg")]


def test_plot(result, monkeypatch):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    from matplotlib import pyplot

    axes = result.plot()
    assert axes.get_title() == "a.jpg"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["person", "bird"]
    assert result.plot(axes) is axes
    pyplot.close("all")


def test_plot_without_matplotlib(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'npmnv2\[plot\]'"):
        result.plot()


def test_shares_are_plain_floats_and_small_ones_are_seen(result):
    assert all(type(region.share) is float for region in result.legend)
    label_map = np.zeros((100, 100), np.int32)
    label_map[0, 0] = 1
    small = Segmentation(label_map, result.labels, photo(100, 100))
    assert str(small).splitlines()[1:] == ["  100.0%     0  #000000  background", "   <0.1%     1  #800000  aeroplane"]


def test_repr_is_short(result):
    assert repr(result) == "<Segmentation a.jpg, 6 × 4: 70.8% background, 25.0% person, 4.2% bird>"


def test_html_is_escaped_and_holds_no_script():
    nasty = "<script>alert('x')</script>"
    result = Segmentation(np.array([[0, 1]]), ("background", nasty), photo(1, 2), f"{nasty}.jpg")
    page = result._repr_html_()
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 2
    assert 'src="data:image/jpeg;base64,' in page


def test_mask_file_keeps_labels_and_shows_colors(result, tmp_path):
    result.save(tmp_path / "mask.png", tmp_path / "overlay.jpg")
    with Image.open(tmp_path / "mask.png") as mask:
        assert mask.mode == "P"
        npt.assert_array_equal(np.asarray(mask), result.label_map)
        npt.assert_array_equal(np.asarray(mask.convert("RGB")), color_map("voc")[result.label_map])
    with Image.open(tmp_path / "overlay.jpg") as overlay:
        assert overlay.format == "JPEG"
        assert overlay.size == (6, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "none"),
        ({"mask": "mask.jpg"}, r"mask \(='.*mask.jpg'\) must end in .png"),
        ({"mask": "mask.png", "overlay": "overlay.xyz"}, r"overlay \(='.*overlay.xyz'\)"),
        ({"overlay": "overlay"}, "overlay"),
    ],
)
def test_files_that_cannot_be_written(result, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        result.save(**{name: str(tmp_path / file) for name, file in arguments.items()})
    assert list(tmp_path.iterdir()) == []


def test_colors():
    for dataset in ("voc", "cityscapes", "ade20k"):
        npt.assert_array_equal(colors_for(segmentation_labels(dataset)), color_map(dataset))
    other = colors_for([f"class {i}" for i in range(300)])
    assert other.shape == (300, 3)
    npt.assert_array_equal(other[:21], color_map("voc"))
    many = Segmentation(np.zeros((2, 2), np.int32), tuple(map(str, range(300))), photo(2, 2))
    with pytest.raises(ValueError, match="256 classes, got 300"):
        many.to_image()


def test_a_saved_overlay_shows_photo_and_colors_alike(tmp_path):
    """Without `alpha`, files hold what `overlay(0.5)` gives."""
    label_map = np.zeros((40, 60), np.int32)
    label_map[8:32, 10:50] = 15
    result = Segmentation(label_map, segmentation_labels("voc"), photo(40, 60))
    result.save(overlay=tmp_path / "overlay.png")
    with Image.open(tmp_path / "overlay.png") as image:
        npt.assert_array_equal(np.asarray(image), np.asarray(result.overlay(0.5)))
