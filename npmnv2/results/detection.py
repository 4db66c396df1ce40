"""What `predict` returns for a detector: boxes in the photo's own pixels, to look at and to store."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, overload

import numpy as np
from numpy.typing import NDArray

from npmnv2.errors import ArgumentError, Npmnv2Error
from npmnv2.kernels import Array
from npmnv2.results.pictures import LabeledBox, display_colors, draw_boxes, plot_picture, thumbnail, write_picture
from npmnv2.results.tables import csv_lines, html_figure, json_line, percent

if TYPE_CHECKING:
    from PIL import Image

# Detections that a repr shows.
_SHOWN = 3

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]


class DetectionDict(TypedDict):
    """`Detection` as plain values."""

    label: str
    id: int
    score: float
    box: list[float]


class DetectionsDict(TypedDict):
    """`Detections` as plain values."""

    source: str | None
    detections: list[DetectionDict]


class CocoResult(TypedDict):
    """A detection in COCO's format for results; ``bbox`` is (left, top, width, height)."""

    image_id: int
    category_id: int
    bbox: list[float]
    score: float


@dataclass(frozen=True)
class Detection:
    """One thing on a photo.

    Attributes
    ----------
    label : str
    id : int
        Number of the class, counted from 1: for COCO's classes COCO's own, which has gaps.
    score : float
        0…1.
    box : (left, top, right, bottom)
        In the photo's pixels, from its upper left corner.
    """

    label: str
    id: int
    score: float
    box: Box

    def to_dict(self) -> DetectionDict:
        """Plain values, for JSON."""
        return DetectionDict(label=self.label, id=self.id, score=self.score, box=list(self.box))


@dataclass(frozen=True, repr=False, eq=False)
class Detections(Sequence[Detection]):
    """What was found on a photo, by descending score.

    Attributes
    ----------
    boxes : Array [shape=(n, 4)]
        (left, top, right, bottom) in the photo's pixels; upright, if EXIF says that the photo is not.
    ids : integers [shape=(n,)]
        Numbers of the classes, as `Detection.id`.
    labels : tuple of str
        Names of the classes, one for each box.
    scores : Array [shape=(n,)]
    size : (height, width)
        Of the photo.
    source : str or None
        Name of the file.
    """

    boxes: Array
    ids: NDArray[np.integer[Any]]
    labels: tuple[str, ...]
    scores: Array
    size: tuple[int, int]
    source: str | None = None
    # The pixels, or what reads the file again: a folder of photos does not fit into memory.
    image: Pixels | Callable[[], Pixels] | None = field(default=None, kw_only=True)

    @overload
    def __getitem__(self, index: int) -> Detection: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Detection, ...]: ...
    def __getitem__(self, index: int | slice) -> Detection | tuple[Detection, ...]:
        """Detection by rank."""
        if isinstance(index, slice):
            return tuple(self[number] for number in range(*index.indices(len(self))))
        left, top, right, bottom = self.boxes[index].tolist()
        label, number = self.labels[index], int(self.ids[index])
        return Detection(label, number, float(self.scores[index]), (left, top, right, bottom))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def photo(self) -> Pixels:
        """The photo [shape=(height, width, 3)], read again if it is a file.

        Raises
        ------
        FileNotFoundError, ImageError
            If the file is gone, or is not what it was.
        """
        if self.image is None:
            raise ArgumentError("image must be given to draw on it; these detections have none")
        pixels = self.image() if callable(self.image) else self.image
        if pixels.shape[:2] != tuple(self.size):
            height, width = pixels.shape[:2]
            raise ArgumentError(
                f"{self.source} must be the photo of {self.size[1]} × {self.size[0]} pixels that was looked at; "
                f"it now has {width} × {height}"
            )
        return pixels

    # --- pictures ----------------------------------------------------------------------------------------------------

    def overlay(self) -> Image.Image:
        """Draw the boxes over the photo.

        Returns
        -------
        PIL.Image.Image
            RGB, of the photo's size. A photo of few pixels is enlarged; what finds no room in it is listed below it.
        """
        return draw_boxes(self.photo, [self._drawn(detection) for detection in self])

    def _drawn(self, detection: Detection) -> LabeledBox:
        red, green, blue = map(int, display_colors(detection.id + 1)[-1])
        return LabeledBox(detection.box, (red, green, blue), f"{detection.label} {detection.score:.0%}")

    def show(self) -> None:
        """Open the overlay in the system's image viewer."""
        self.overlay().show(title=self.source)

    def plot(self, axes: Any = None) -> Any:
        """Draw the overlay into axes of Matplotlib.

        Parameters
        ----------
        axes : matplotlib.axes.Axes, optional
            New ones if not given.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ModuleNotFoundError
            If Matplotlib is not installed.
        """
        return plot_picture(self.overlay(), self.source, axes)

    def save(self, path: str | Path) -> None:
        """Write the overlay atomically; the suffix names the format."""
        write_picture(self.overlay(), path)

    def crop(self, index: int = 0, *, margin: float = 0.0) -> Image.Image:
        """Cut a detection out of the photo.

        Parameters
        ----------
        index : int
            Its rank.
        margin : float
            What to keep around the box, in parts of its sides; no more than there is.

        Returns
        -------
        PIL.Image.Image
            RGB; all pixels that the box touches.
        """
        from PIL import Image

        if not -len(self) <= index < len(self):
            raise ArgumentError(f"index (={index}) must be the rank of one of the {len(self)} detections")
        if not 0 <= margin < math.inf:
            raise ArgumentError(f"margin (={margin!r}) must be a number of at least 0")
        left, top, right, bottom = self[index].box
        aside, above = margin * (right - left), margin * (bottom - top)
        height, width = self.size
        rows = slice(max(0, math.floor(top - above)), min(height, math.ceil(bottom + above)))
        columns = slice(max(0, math.floor(left - aside)), min(width, math.ceil(right + aside)))
        return Image.fromarray(self.photo[rows, columns])

    # --- text --------------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        """The file and the first detections."""
        shown = [f"{percent(d.score)} {d.label}" for d in self[:_SHOWN]]
        more = [f"… {len(self) - _SHOWN} more"] if len(self) > _SHOWN else []
        name = f" {self.source}" if self.source else ""
        return f"<Detections{name}: {', '.join([*shown, *more]) or 'none'}>"

    def __str__(self) -> str:
        """A table: score, id, box and label of every detection."""
        height, width = self.size
        lines = [f"{self.source or 'photo'}  {width} × {height} pixels"]
        for detection in self:
            corners = " ".join(f"{value:6.0f}" for value in detection.box)
            lines.append(f"  {percent(detection.score):>6}  {detection.id:4d}  {corners}  {detection.label}")
        return "\n".join(lines if len(self) else [*lines, "  nothing found"])

    def _repr_html_(self) -> str:
        """The overlay, if the photo is still there, and the table: what notebooks show."""
        try:
            picture = thumbnail(self.overlay())
        except (Npmnv2Error, OSError):
            picture = None
        rows = [
            (f"#{bytes(self._drawn(d).color).hex()}", percent(d.score), str(d.id), d.label, _corners(d.box))
            for d in self
        ]
        return html_figure(self.source or "", picture, rows)

    def to_dict(self) -> DetectionsDict:
        """Plain values, for JSON."""
        return DetectionsDict(source=self.source, detections=[detection.to_dict() for detection in self])

    def to_json(self) -> str:
        """One line of JSON."""
        return json_line(self.to_dict())

    def to_csv(self, header: bool = True) -> str:
        """Lines of CSV: source, label, id, score, x0, y0, x1, y1."""
        columns = ["source", "label", "id", "score", "x0", "y0", "x1", "y1"]
        return csv_lines(columns, ([self.source or "", d.label, d.id, d.score, *d.box] for d in self), header)

    def to_coco(self, image_id: int | None = None) -> list[CocoResult]:
        """Detections in COCO's format for results, which its evaluation reads.

        Parameters
        ----------
        image_id : int, optional
            The image's number; if not given the last number in the name of the file, as COCO names its files.
        """
        number = _image_id(self.source) if image_id is None else image_id
        return [
            CocoResult(image_id=number, category_id=d.id, bbox=[*d.box[:2], *_size(d.box)], score=d.score) for d in self
        ]


def _size(box: Box) -> tuple[float, float]:
    return box[2] - box[0], box[3] - box[1]


def _corners(box: Box) -> str:
    return ", ".join(f"{value:.0f}" for value in box)


def _image_id(source: str | None) -> int:
    numbers = re.findall(r"\d+", Path(source or "").stem)
    if not numbers:
        raise ArgumentError(f"image_id must be given where the file's name (={source!r}) has no number")
    return int(numbers[-1])
