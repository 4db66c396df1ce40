"""Pictures of results: colors to look at, classes drawn over a photo, a legend, thumbnails."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from npmnv2.errors import ArgumentError, MissingPackageError
from npmnv2.files import write_atomically

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

# Rows of a photo are counted and colored in pieces of this many pixels, so that nothing wider is held as a whole.
_BLOCK_PIXELS = 1 << 20

# Turned by the golden angle, any number of hues stays well apart; neighbors in the list also differ in lightness.
_GOLDEN_ANGLE = 137.508
_FIRST_HUE = 25.0
_LIGHTNESS = (0.70, 0.82, 0.64)
_CHROMA = 0.20

# A legend needs room: a picture of which a side is shorter gets none.
_MIN_LEGEND_SIDE = 128
_MAX_ENTRIES = 8

# Boxes are drawn on a picture whose longest side has at least as many pixels.
_MIN_DRAWN_SIDE = 480

# What notebooks show: pixels of the longest side, and the formats in which files are opened for it.
_THUMBNAIL_SIDE = 256
_THUMBNAIL_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")

_RGB_OF_LMS = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)
_LMS_OF_LAB = np.array(
    [[1.0, 0.3963377774, 0.2158037573], [1.0, -0.1055613458, -0.0638541728], [1.0, -0.0894841775, -1.2914855480]]
)


class Entry(NamedTuple):
    """One line of a legend: a color and what it stands for."""

    color: tuple[int, int, int]
    text: str


def blocks(height: int, width: int) -> Iterator[slice]:
    """Slices of rows of about a million pixels each."""
    step = max(1, _BLOCK_PIXELS // width)
    return (slice(start, start + step) for start in range(0, height, step))


def display_colors(count: int) -> NDArray[np.uint8]:
    """Colors that are told apart on photos [shape=(count, 3)]: bright, saturated, of evenly spread hues.

    Notes
    -----
    Hue, chroma and lightness are those of Oklab (Ottosson, "A perceptual color space for image processing", 2020).
    """
    index = np.arange(count)
    hue = np.radians(_FIRST_HUE + _GOLDEN_ANGLE * index)
    lightness = np.resize(_LIGHTNESS, count)
    lab = np.stack([lightness, _CHROMA * np.cos(hue), _CHROMA * np.sin(hue)], axis=-1)
    linear = ((lab @ _LMS_OF_LAB.T) ** 3 @ _RGB_OF_LMS.T).clip(0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    colors: NDArray[np.uint8] = np.rint(255 * encoded).astype(np.uint8)
    return colors


def blend(
    photo: NDArray[np.uint8], label_map: NDArray[np.integer], colors: NDArray[np.uint8], weights: NDArray[np.uint16]
) -> NDArray[np.uint8]:
    """Every pixel of a photo mixed with the color of its class, by the weight of that class in 256ths."""
    picture = np.empty_like(photo)
    for rows in blocks(*label_map.shape):
        labels = label_map[rows]
        weight = weights[labels][..., None]
        picture[rows] = (photo[rows] * (256 - weight) + colors[labels] * weight + 128) >> 8
    return picture


def outline(label_map: NDArray[np.integer], width: int) -> NDArray[np.bool_]:
    """Pixels within `width` of a pixel of a different class."""
    edge = np.zeros(label_map.shape, bool)
    for before, after in (
        ((slice(None, -1),), (slice(1, None),)),
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
    ):
        differs = label_map[before] != label_map[after]
        edge[before] |= differs
        edge[after] |= differs
    if width == 1 or min(edge.shape) < 3:
        return edge
    from PIL import Image, ImageFilter

    picture = Image.fromarray(edge)
    for _ in range(width - 1):
        picture = picture.convert("L").filter(ImageFilter.MaxFilter(3))
    return np.asarray(picture) > 0


def outline_width(height: int, width: int) -> int:
    """Pixels that look the same on pictures of any size."""
    return max(1, round(min(height, width) / 250))


def draw_legend(picture: Image.Image, entries: Sequence[Entry], free: NDArray[np.bool_]) -> None:
    """Draw a legend into the corner of `picture` that hides the fewest pixels outside `free`.

    A picture that is too small gets none.
    """
    from PIL import Image, ImageDraw

    if not entries or min(picture.size) < _MIN_LEGEND_SIDE:
        return
    entries = [*entries[:_MAX_ENTRIES], *([_rest(len(entries) - _MAX_ENTRIES)] if len(entries) > _MAX_ENTRIES else [])]
    line = max(14, round(min(picture.size) / 20))
    font = _font(round(0.72 * line))
    width = round(1.9 * line + max(font.getlength(entry.text) for entry in entries))
    height = round((len(entries) + 0.6) * line)
    if width > 0.8 * picture.width or height > 0.8 * picture.height:
        return
    left, top = _best_corner(free, width, height, margin=round(0.4 * line))
    shade = Image.new("RGB", (width, height), (20, 20, 20))
    box = (left, top, left + width, top + height)
    picture.paste(Image.blend(picture.crop(box), shade, 0.72), box)
    draw = ImageDraw.Draw(picture)
    for row, entry in enumerate(entries):
        y = top + round((row + 0.3) * line)
        swatch = (left + round(0.4 * line), y + round(0.2 * line))
        side = round(0.6 * line)
        draw.rectangle((*swatch, swatch[0] + side, swatch[1] + side), fill=entry.color)
        draw.text((left + round(1.4 * line), y + line / 2), entry.text, fill=(255, 255, 255), font=font, anchor="lm")


def _rest(count: int) -> Entry:
    return Entry((20, 20, 20), f"and {count} more")


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    from PIL import ImageFont

    try:
        return ImageFont.load_default(size)
    except TypeError:  # Pillow before 10.1 has one size
        return ImageFont.load_default()


def _best_corner(free: NDArray[np.bool_], width: int, height: int, margin: int) -> tuple[int, int]:
    """(left, top) of a box in the corner with the most free pixels; the lower left one where all are level."""
    rows, columns = free.shape
    corners = [(left, top) for top in (rows - height - margin, margin) for left in (margin, columns - width - margin)]
    return max(corners, key=lambda c: np.count_nonzero(free[c[1] : c[1] + height, c[0] : c[0] + width]))


def plot_picture(image: Image.Image, source: str | None, axes: Any = None) -> Any:
    """Draw a picture into axes of Matplotlib, new ones if not given; return them.

    Raises
    ------
    ModuleNotFoundError
        If Matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot
    except ImportError:
        raise MissingPackageError("plot needs Matplotlib: pip install 'npmnv2[plot]'") from None
    axes = pyplot.subplots()[1] if axes is None else axes
    axes.imshow(image)
    axes.set_axis_off()
    axes.set_title(Path(source).name if source else "")
    return axes


def write_picture(picture: Image.Image, path: str | Path) -> None:
    """Write a picture; the suffix names the format. Atomic.

    Raises
    ------
    ArgumentError
        If the suffix is not that of an image format.
    OSError
    """
    from PIL import Image

    Image.init()  # Pillow 9 lists only those that it has used
    formats = Image.registered_extensions()
    suffix = Path(path).suffix.lower()
    if suffix not in formats:
        raise ArgumentError(f"path (={str(path)!r}) must end in the suffix of an image format: .png, .jpg, …")
    with write_atomically(path) as part:
        picture.save(part, format=formats[suffix])


class LabeledBox(NamedTuple):
    """A box to draw, (left, top, right, bottom) in pixels of the photo, with its color and text."""

    box: tuple[float, float, float, float]
    color: tuple[int, int, int]
    text: str


def draw_boxes(photo: NDArray[np.uint8], boxes: Sequence[LabeledBox]) -> Image.Image:
    """Draw boxes and their texts, no text over another.

    A photo of few pixels is enlarged until its texts can be read. Texts that find no room beside their boxes are listed
    below the photo.

    Parameters
    ----------
    photo : uint8 [shape=(height, width, 3)]
    boxes : sequence of LabeledBox
        The first ones have their texts placed first.
    """
    from PIL import Image, ImageDraw

    scale = max(1, math.ceil(_MIN_DRAWN_SIDE / max(photo.shape[:2])))
    picture = Image.fromarray(photo)
    picture = picture.resize((scale * picture.width, scale * picture.height), Image.Resampling.BICUBIC)
    # Thin photos have room for texts of the usual size, and none has texts that are too small.
    font = _font(max(14, round(max(picture.size) / 42)))
    draw, width = ImageDraw.Draw(picture), max(3, outline_width(*picture.size))
    scaled = [box._replace(box=_scaled(box.box, scale)) for box in boxes]
    # The best are drawn last, over the others.
    for box in reversed(scaled):
        _draw_frame(draw, box, width)
    taken: list[_Rectangle] = []
    left_out: list[LabeledBox] = []
    for box in scaled:
        place = _free_place(box.box, _text_size(box.text, font), picture.size, taken)
        if place is None:
            left_out.append(box)
        else:
            taken.append(place)
            _draw_text(draw, place, box, font)
    return _with_list(picture, left_out, font) if left_out else picture


_Rectangle = tuple[int, int, int, int]


def _scaled(box: tuple[float, float, float, float], scale: int) -> tuple[float, float, float, float]:
    left, top, right, bottom = box
    return left * scale, top * scale, right * scale, bottom * scale


def _draw_frame(draw: ImageDraw.ImageDraw, box: LabeledBox, width: int) -> None:
    """A line in the box's color within a thin dark one, so that it is seen on any ground."""
    left, top, right, bottom = _whole_pixels(box.box)
    for inset, color, line in ((-1, (0, 0, 0), width + 2), (0, box.color, width)):
        # A box thinner than its line is a line.
        inner = (left + inset, top + inset, max(left, right - 1) - inset, max(top, bottom - 1) - inset)
        draw.rectangle(inner, outline=color, width=line)


def _whole_pixels(box: tuple[float, float, float, float]) -> _Rectangle:
    left, top, right, bottom = box
    return math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)


def _text_size(text: str, font: Any) -> tuple[int, int]:
    """Width and height of a text with its margins."""
    top, bottom = _text_rows(font)
    return math.ceil(font.getlength(text)) + 2 * _margin(font), math.ceil(bottom - top) + 2 * _margin(font)


def _text_rows(font: Any) -> tuple[float, float]:
    """Where all texts begin and end, below the point that they are drawn at, with or without descenders."""
    top, bottom = font.getbbox("Ag")[1::2]
    return float(top), float(bottom)


def _margin(font: Any) -> int:
    top, bottom = _text_rows(font)
    return max(2, round((bottom - top) / 6))


def _free_place(
    box: tuple[float, float, float, float], size: tuple[int, int], canvas: tuple[int, int], taken: Sequence[_Rectangle]
) -> _Rectangle | None:
    """Where a text can stand beside the edges of its box, within the picture and over no other text."""
    width, height = size
    left, top, right, bottom = _whole_pixels(box)
    down = [top - height, top, bottom, bottom - height, *range(top + height, bottom - height, height)]
    for y in (y for y in down if 0 <= y <= canvas[1] - height):
        for x in (max(0, min(x, canvas[0] - width)) for x in (left, right - width)):
            place = (x, y, x + width, y + height)
            if width <= canvas[0] and not any(_intersect(place, other) for other in taken):
                return place
    return None


def _intersect(a: _Rectangle, b: _Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _draw_text(draw: ImageDraw.ImageDraw, place: _Rectangle, box: LabeledBox, font: Any) -> None:
    draw.rectangle((place[0], place[1], place[2] - 1, place[3] - 1), fill=box.color)
    corner = (place[0] + _margin(font), place[1] + _margin(font) - _text_rows(font)[0])
    # All display colors are bright.
    draw.text(corner, box.text, fill=(0, 0, 0), font=font)


def _with_list(picture: Image.Image, boxes: Sequence[LabeledBox], font: Any) -> Image.Image:
    """The picture above a list of texts, as many columns as fit."""
    from PIL import Image, ImageDraw

    sizes = [_text_size(box.text, font) for box in boxes]
    gap = sizes[0][1] // 4
    cell = (max(width for width, _ in sizes) + gap, sizes[0][1] + gap)
    columns = max(1, (max(picture.width, _MIN_DRAWN_SIDE) - gap) // cell[0])
    rows = -(-len(boxes) // columns)
    width = max(picture.width, gap + min(columns, len(boxes)) * cell[0])
    canvas = Image.new("RGB", (width, picture.height + gap + rows * cell[1]), (20, 20, 20))
    canvas.paste(picture)
    draw = ImageDraw.Draw(canvas)
    for number, (box, (text_width, text_height)) in enumerate(zip(boxes, sizes)):
        row, column = divmod(number, columns)
        x, y = gap + column * cell[0], picture.height + gap + row * cell[1]
        _draw_text(draw, (x, y, x + text_width, y + text_height), box, font)
    return canvas


def thumbnail(picture: Image.Image) -> str:
    """A small JPEG of a picture, as a data URI."""
    small = picture.convert("RGB")
    small.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def thumbnail_of_file(path: str | None) -> str | None:
    """Thumbnail of a file; None if there is none that can be read."""
    if path is None or not Path(path).is_file():
        return None
    from PIL import Image

    try:
        with Image.open(path, formats=_THUMBNAIL_FORMATS) as picture:
            # Lets JPEG decode at a fraction of its size.
            picture.draft("RGB", (_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
            return thumbnail(picture)
    except Exception:  # Pillow's plugins raise whatever their parsing trips over; the table is shown all the same
        return None
