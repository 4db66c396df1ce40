"""A heat map as a picture and as text."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from npmnv2.errors import ArgumentError
from npmnv2.results.class_map import Grid
from npmnv2.results.heat_map import HeatMap

PHOTO = np.full((40, 60, 3), 200, np.uint8)


def heat_map(contributions, seen=(slice(0, 40), slice(0, 60)), source=None) -> HeatMap:
    contributions = np.array(contributions, float)
    grid = Grid.resize(contributions.shape, (40, 60), "half_pixel")
    return HeatMap(contributions, 3, "<b>cat", 0.9, 4.5, 0.5, PHOTO, grid, seen, source)


def test_colors_say_for_and_against() -> None:
    pixels = np.asarray(heat_map([[4, 0, -4]]).overlay()).astype(int)
    left, middle, right = pixels[20, 1], pixels[20, 30], pixels[20, 58]
    assert left[0] > 200 > left[2]
    assert right[2] > 200 > right[0]
    assert np.ptp(middle) <= 8


def test_what_was_cut_off_is_dark_and_has_no_heat() -> None:
    found = heat_map([[1, 2], [3, 4]], seen=(slice(10, 30), slice(5, 55)))
    pixels = np.asarray(found.overlay())
    assert (pixels[:10] == 70).all()
    assert (found.heat[:10] == 0).all()
    assert (pixels[10:30, 5:55, 0] > 150).all()


def test_a_map_without_contributions_is_the_photo() -> None:
    np.testing.assert_array_equal(np.asarray(heat_map([[0.0, 0.0]]).overlay()), PHOTO)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_save(tmp_path, suffix) -> None:
    heat_map([[1, 2]]).save(tmp_path / f"a.{suffix}")
    with Image.open(tmp_path / f"a.{suffix}") as picture:
        assert picture.size == (60, 40)
    with pytest.raises(ArgumentError, match="suffix of an image format"):
        heat_map([[1, 2]]).save(tmp_path / "a.txt")


def test_text() -> None:
    found = heat_map([[3, 5]], source="a.jpg")
    assert repr(found) == "<HeatMap a.jpg: 90.0% <b>cat>"
    assert str(found).splitlines()[1].split(",")[0].split() == ["logit", "4.500", "=", "0.500", "+", "4.000"]
    assert "&lt;b&gt;cat" in found._repr_html_()
    assert "<b>" not in found._repr_html_()
