"""Colors that are told apart, outlines, legends and thumbnails."""

from __future__ import annotations

import base64
import io

import numpy as np
import numpy.testing as npt
import pytest
from PIL import Image

from npmnv2.errors import ArgumentError
from npmnv2.results import pictures
from npmnv2.results.pictures import (
    Entry,
    LabeledBox,
    blocks,
    display_colors,
    draw_boxes,
    draw_legend,
    outline,
    outline_width,
    thumbnail,
    thumbnail_of_file,
    write_picture,
)


@pytest.mark.parametrize("count", [1, 21, 151, 300])
def test_display_colors_are_bright_and_no_two_are_the_same(count):
    colors = display_colors(count)
    assert colors.shape == (count, 3)
    assert colors.dtype == np.uint8
    assert colors.max(-1).min() >= 140, "none is mud"
    assert (colors.max(-1).astype(int) - colors.min(-1)).min() >= 60, "none is gray"
    if count <= 21:
        apart = np.abs(colors[:, None].astype(int) - colors).sum(-1) + 765 * np.eye(count, dtype=int)
        assert apart.min() >= 45
    npt.assert_array_equal(display_colors(count + 5)[:count], colors)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 2), (4, 7), (13, 17)])
@pytest.mark.parametrize("width", [1, 2, 3])
def test_outline_is_what_has_a_neighbor_of_a_different_class(size, width):
    label_map = np.random.default_rng(0).integers(0, 2, size) if min(size) < 9 else np.zeros(size, int)
    label_map[size[0] // 3 : size[0] // 2, size[1] // 3 : size[1] // 2] = 1
    edge = outline(label_map, 1)
    for i, j in np.ndindex(*size):
        near = [(i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)]
        inside = [(a, b) for a, b in near if 0 <= a < size[0] and 0 <= b < size[1]]
        assert edge[i, j] == any(label_map[a, b] != label_map[i, j] for a, b in inside)
    wide = outline(label_map, width)
    assert wide.dtype == bool
    if min(size) >= 3:
        reach = width - 1
        ref = np.zeros(size, bool)
        for i, j in np.argwhere(edge):
            ref[max(0, i - reach) : i + reach + 1, max(0, j - reach) : j + reach + 1] = True
        npt.assert_array_equal(wide, ref)


def test_outline_width_grows_with_the_picture():
    assert [outline_width(side, side) for side in (1, 100, 500, 3000)] == [1, 1, 2, 12]


def test_blocks_cover_every_row_once():
    rows = [row for block in blocks(3000, 2000) for row in range(3000)[block]]
    assert rows == list(range(3000))
    assert len(list(blocks(3000, 2000))) > 1


CAT = (Entry((255, 0, 0), "cat"),)


def legend_box(free, entries=CAT):
    picture = Image.new("RGB", free.shape[::-1], "white")
    draw_legend(picture, entries, free)
    changed = np.argwhere((np.asarray(picture) != 255).any(-1))
    return (*changed.min(0), *changed.max(0)) if len(changed) else None


def test_legend_keeps_to_the_free_corner():
    for top, left in ((True, True), (True, False), (False, True), (False, False)):
        free = np.zeros((200, 300), bool)
        free[slice(0, 100) if top else slice(100, 200), slice(0, 150) if left else slice(150, 300)] = True
        y0, x0, y1, x1 = legend_box(free)
        assert (y1 < 100) == top
        assert (y0 >= 100) == (not top)
        assert (x1 < 150) == left
        assert (x0 >= 150) == (not left)


def test_legend_needs_room():
    assert legend_box(np.ones((60, 300), bool)) is None
    assert legend_box(np.ones((200, 200), bool), (Entry((0, 0, 0), "a very long name of a class " * 3),)) is None
    assert legend_box(np.ones((200, 200), bool), ()) is None


def test_legend_of_many_classes_counts_the_rest():
    twelve = [Entry((0, 0, 0), f"class {i}") for i in range(12)]
    boxes = [legend_box(np.ones((400, 400), bool), twelve[:count]) for count in (8, 9, 12)]
    heights = [bottom - top for top, _, bottom, _ in boxes]
    assert heights[0] < heights[1] == heights[2]


def test_thumbnail_is_small():
    uri = thumbnail(Image.new("RGB", (2000, 1000)))
    head, _, body = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(body))) as image:
        assert image.size == (256, 128)


def test_thumbnail_of_what_is_no_picture(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    Image.new("RGB", (9, 9)).save(tmp_path / "b.png")
    assert thumbnail_of_file(None) is None
    assert thumbnail_of_file(str(tmp_path)) is None
    assert thumbnail_of_file(str(tmp_path / "absent.jpg")) is None
    assert thumbnail_of_file(str(tmp_path / "a.jpg")) is None
    assert thumbnail_of_file(str(tmp_path / "b.png")).startswith("data:image/jpeg")


def test_a_picture_is_written_in_the_format_of_its_suffix(tmp_path):
    write_picture(Image.new("RGB", (4, 3)), tmp_path / "a.PNG")
    with Image.open(tmp_path / "a.PNG") as found:
        assert (found.format, found.size) == ("PNG", (4, 3))
    with pytest.raises(ArgumentError, match=r"path \(='.*a.doc'\) must end in the suffix of an image format"):
        write_picture(Image.new("RGB", (4, 3)), tmp_path / "a.doc")


# --- boxes ------------------------------------------------------------------------------------------------------------


def rectangles(picture: Image.Image, color: tuple[int, int, int]) -> np.ndarray:
    return (np.asarray(picture) == color).all(-1)


@pytest.mark.parametrize("size", [(200, 300), (40, 30), (3000, 2000), (1, 500), (500, 1), (1, 1)])
def test_boxes_are_drawn_where_they_are(size):
    height, width = size
    box = LabeledBox((width / 4, height / 4, 3 * width / 4, 3 * height / 4), (250, 200, 20), "cat 90%")
    picture = draw_boxes(np.full((*size, 3), 90, np.uint8), [box])
    scale = max(1, -(-480 // max(size)))
    assert picture.width == scale * width or picture.height > scale * height, "only a list below makes it wider"
    drawn = rectangles(picture, box.color)[: scale * height, : scale * width]
    assert drawn.any()
    left, top, right, bottom = (round(value * scale) for value in box.box)
    if min(size) > 20:
        inside = slice(top + 40, bottom - 40), slice(left + 40, right - 40)
        assert not drawn[inside].any() or min(drawn[inside].shape) == 0
        assert drawn[(top + bottom) // 2, left : left + 12].any()
        assert drawn[(top + bottom) // 2, right - 12 : right].any()


def test_a_photo_without_boxes_stays_as_it_is():
    photo = np.random.default_rng(0).integers(0, 256, (480, 500, 3), np.uint8)
    npt.assert_array_equal(np.asarray(draw_boxes(photo, [])), photo)


@pytest.mark.parametrize("count", [1, 12, 100])
@pytest.mark.parametrize("spread", [0, 1])
def test_no_text_is_over_another(count, spread, monkeypatch):
    """What is drawn into the picture and what is listed below it are all texts, and none meets another."""
    placed = []
    draw = pictures._draw_text
    monkeypatch.setattr(pictures, "_draw_text", lambda d, place, *rest: (placed.append(place), draw(d, place, *rest)))
    rng = np.random.default_rng(0)
    corners = 200 + spread * rng.uniform(-190, 190, (count, 2))
    boxes = [LabeledBox((x, y, x + 80, y + 80), (250, 200, 20), f"label {i} 99%") for i, (x, y) in enumerate(corners)]
    picture = draw_boxes(np.zeros((480, 480, 3), np.uint8), boxes)
    assert len(placed) == count
    for number, (left, top, right, bottom) in enumerate(placed):
        assert 0 <= left < right <= picture.width
        assert 0 <= top < bottom <= picture.height
        for other in placed[:number]:
            assert left >= other[2] or other[0] >= right or top >= other[3] or other[1] >= bottom


def test_texts_can_be_read_on_the_smallest_photo():
    box = LabeledBox((0, 0, 1, 1), (250, 200, 20), "cat 90%")
    picture = draw_boxes(np.zeros((1, 1, 3), np.uint8), [box])
    assert min(picture.size) >= 480
    rows, columns = np.nonzero(rectangles(picture, box.color))
    assert rows.max() - rows.min() >= 12
    assert columns.max() - columns.min() >= 40
