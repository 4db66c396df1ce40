"""Pictures of results: colors to look at, classes drawn over a photo, a legend, thumbnails."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from npmnv2.errors import ArgumentError
from npmnv2.files import write_atomically

if TYPE_CHECKING:
    from PIL import Image, ImageFont

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


def write_picture(picture: Image.Image, path: str | Path) -> None:
    """Write a picture; the suffix names the format. Atomic.

    Raises
    ------
    ArgumentError
        If the suffix is not that of an image format.
    OSError
    """
    from PIL import Image

    formats = Image.registered_extensions()
    suffix = Path(path).suffix.lower()
    if suffix not in formats:
        raise ArgumentError(f"path (={str(path)!r}) must end in the suffix of an image format: .png, .jpg, …")
    with write_atomically(path) as part:
        picture.save(part, format=formats[suffix])


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
