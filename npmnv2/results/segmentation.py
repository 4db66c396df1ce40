"""What `predict` returns for a segmentation model: a label map with its legend, to look at and to store."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from npmnv2.errors import ArgumentError
from npmnv2.files import write_atomically
from npmnv2.kernels import Array
from npmnv2.labels import BACKGROUND, color_map, segmentation_labels, voc_colors

# Rows of a photo are counted and colored in pieces of this many pixels, so that nothing wider is held as a whole.
_BLOCK_PIXELS = 1 << 20

# A palette has as many entries.
MAX_COLORS = 256


@dataclass(frozen=True)
class Region:
    """One class that occurs in a label map.

    Attributes
    ----------
    index : int
        Number of the class, which is its value in the label map.
    label : str
    color : str
        ``#rrggbb``, as drawn.
    pixels : int
    share : float
        Part of all pixels, 0…1.
    """

    index: int
    label: str
    color: str
    pixels: int
    share: float


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The class of every pixel of a photo.

    Attributes
    ----------
    label_map : integers [shape=(height, width)]
        Of the photo's own size; upright, if EXIF says that the photo is not.
    labels : tuple of str
        Names of all classes of the model.
    photo : uint8 [shape=(height, width, 3)]
        What the overlay is drawn on.
    source : str or None
        Name of the file.
    scores : Array [shape=(height, width, classes)] or None
        Probabilities, where they were asked for.
    """

    label_map: NDArray[Any] = field(repr=False)
    labels: tuple[str, ...] = field(repr=False)
    photo: NDArray[np.uint8] = field(repr=False)
    source: str | None = None
    scores: Array | None = field(default=None, repr=False)

    @cached_property
    def legend(self) -> tuple[Region, ...]:
        """The classes that occur, largest first."""
        pixels = np.zeros(len(self.labels), np.int64)
        for rows in self._blocks():
            pixels += np.bincount(self.label_map[rows].reshape(-1), minlength=len(pixels))
        order = np.argsort(-pixels, kind="stable")[: np.count_nonzero(pixels)]
        return tuple(
            Region(
                i, self.labels[i], "#" + bytes(self.colors[i]).hex(), int(pixels[i]), pixels[i] / self.label_map.size
            )
            for i in map(int, order)
        )

    @cached_property
    def colors(self) -> NDArray[np.uint8]:
        """Color of every class [shape=(classes, 3)]: those of the data set that the labels are of, or Pascal VOC's."""
        return colors_for(self.labels)

    def overlay(self, alpha: float = 0.6) -> Image.Image:
        """Draw the label map over the photo; pixels of the background stay as they are.

        Parameters
        ----------
        alpha : float
            Weight of the colors: 0 shows the photo only, 1 the colors only.

        Returns
        -------
        PIL.Image.Image
            RGB, of the photo's size.
        """
        if not 0 <= alpha <= 1:
            raise ArgumentError(f"alpha (={alpha!r}) must be from 0 to 1")
        weights = np.full((len(self.labels), 1), round(256 * alpha), np.uint16)
        if BACKGROUND in self.labels:
            weights[self.labels.index(BACKGROUND)] = 0
        picture = np.empty_like(self.photo)
        for rows in self._blocks():
            labels = self.label_map[rows]
            weight = weights[labels]
            picture[rows] = (self.photo[rows] * (256 - weight) + self.colors[labels] * weight + 128) >> 8
        return Image.fromarray(picture)

    def mask(self) -> Image.Image:
        """The label map as a palette image: pixel values are class indices, shown in the classes' colors.

        Raises
        ------
        ValueError
            If there are more classes than a palette has colors.
        """
        if len(self.labels) > MAX_COLORS:
            raise ArgumentError(f"a palette holds {MAX_COLORS} classes, got {len(self.labels)}; store label_map itself")
        image = Image.fromarray(self.label_map.astype(np.uint8))
        image.putpalette(self.colors.tobytes())
        return image

    def save(self, mask: str | Path | None = None, overlay: str | Path | None = None, *, alpha: float = 0.6) -> None:
        """Write the mask as a palette PNG, the overlay in any image format, or both; each atomically.

        Parameters
        ----------
        mask : path, optional
            Must end in ``.png``: other formats may change labels.
        overlay : path, optional
            The suffix names the format.
        alpha : float
            As in `overlay`.
        """
        if mask is None and overlay is None:
            raise ArgumentError("save needs a file name for the mask, for the overlay or for both, got none")
        if mask is not None and Path(mask).suffix.lower() != ".png":
            raise ArgumentError(f"mask (={str(mask)!r}) must end in .png, which keeps labels exactly")
        if overlay is not None and Path(overlay).suffix.lower() not in Image.registered_extensions():
            raise ArgumentError(f"overlay (={str(overlay)!r}) must end in the suffix of an image format: .png, .jpg, …")
        if mask is not None:
            _write(self.mask(), Path(mask))
        if overlay is not None:
            _write(self.overlay(alpha), Path(overlay))

    def __str__(self) -> str:
        """A table of the classes that occur: share, index, color and label."""
        height, width = self.label_map.shape
        lines = [f"{self.source or 'photo'}  {width} × {height} pixels"]
        lines += [f"  {r.share:6.1%}  {r.index:4d}  {r.color}  {r.label}" for r in self.legend]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON: the legend, not the pixels."""
        height, width = self.label_map.shape
        legend = [asdict(region) for region in self.legend]
        return {"source": self.source, "width": width, "height": height, "legend": legend}

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    def to_csv(self, header: bool = True) -> str:
        """Lines of CSV: source, index, label, color, pixels, share."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if header:
            writer.writerow(["source", *(f.name for f in fields(Region))])
        for region in self.legend:
            *values, share = astuple(region)
            writer.writerow([self.source or "", *values, f"{share:.6f}"])
        return text.getvalue()

    def _blocks(self) -> Iterator[slice]:
        height, width = self.label_map.shape
        step = max(1, _BLOCK_PIXELS // width)
        return (slice(start, start + step) for start in range(0, height, step))


def colors_for(labels: Sequence[str]) -> NDArray[np.uint8]:
    """Color of every class [shape=(classes, 3)]: of the data set that has these labels, or Pascal VOC's in turn."""
    for dataset in ("voc", "cityscapes", "ade20k"):
        if tuple(labels) == segmentation_labels(dataset):
            return color_map(dataset)
    return voc_colors(MAX_COLORS)[np.arange(len(labels)) % MAX_COLORS]


def _write(image: Image.Image, path: Path) -> None:
    with write_atomically(path) as part:
        image.save(part, format=Image.registered_extensions()[path.suffix.lower()])
