"""What `predict` returns for a segmentation model: a label map with its legend, to look at and to store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, get_args

import numpy as np
from numpy.typing import NDArray

from npmnv2.errors import ArgumentError
from npmnv2.kernels import Array
from npmnv2.labels import BACKGROUND, color_map, segmentation_labels, voc_colors
from npmnv2.results.pictures import (
    Entry,
    blend,
    blocks,
    display_colors,
    draw_legend,
    outline,
    outline_width,
    plot_picture,
    thumbnail,
    write_picture,
)
from npmnv2.results.tables import csv_lines, html_figure, json_line, percent

if TYPE_CHECKING:
    from PIL import Image

Palette = Literal["display", "dataset"]

# Entries of a palette.
MAX_COLORS = 256

# Classes that a repr shows.
_SHOWN = 3


class RegionDict(TypedDict):
    """`Region` as plain values."""

    index: int
    label: str
    color: str
    pixels: int
    share: float


class SegmentationDict(TypedDict):
    """`Segmentation` as plain values, without the pixels."""

    source: str | None
    width: int
    height: int
    legend: list[RegionDict]


@dataclass(frozen=True)
class Region:
    """One class that occurs in a label map.

    Attributes
    ----------
    index : int
        Number of the class, which is its value in the label map.
    label : str
    color : str
        ``#rrggbb``, the data set's own: the color in mask files.
    pixels : int
    share : float
        Part of all pixels, 0…1.
    """

    index: int
    label: str
    color: str
    pixels: int
    share: float

    def to_dict(self) -> RegionDict:
        """Plain values, for JSON."""
        return RegionDict(index=self.index, label=self.label, color=self.color, pixels=self.pixels, share=self.share)


@dataclass(frozen=True, eq=False, repr=False)
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

    label_map: NDArray[Any]
    labels: tuple[str, ...]
    photo: NDArray[np.uint8]
    source: str | None = None
    scores: Array | None = None

    @cached_property
    def legend(self) -> tuple[Region, ...]:
        """The classes that occur, largest first."""
        pixels = np.zeros(len(self.labels), np.int64)
        for rows in blocks(*self.label_map.shape):
            pixels += np.bincount(self.label_map[rows].reshape(-1), minlength=len(pixels))
        order = np.argsort(-pixels, kind="stable")[: np.count_nonzero(pixels)]
        return tuple(self._region(int(index), int(pixels[index])) for index in order)

    def _region(self, index: int, pixels: int) -> Region:
        color = _hex(self.colors[index])
        return Region(index, self.labels[index], color, pixels, pixels / self.label_map.size)

    @cached_property
    def colors(self) -> NDArray[np.uint8]:
        """Color of every class [shape=(classes, 3)]: those of the data set that the labels are of, or Pascal VOC's."""
        return colors_for(self.labels)

    @cached_property
    def display_colors(self) -> NDArray[np.uint8]:
        """Colors for overlays [shape=(classes, 3)]: bright and easy to tell apart on a photo."""
        return display_colors(len(self.labels))

    # --- pictures ----------------------------------------------------------------------------------------------------

    def overlay(
        self, alpha: float = 0.5, *, palette: Palette = "display", outlines: bool = True, legend: bool = True
    ) -> Image.Image:
        """Draw the label map over the photo; pixels of the background stay as they are.

        Parameters
        ----------
        alpha : float
            Weight of the colors: 0 shows the photo only, 1 the colors only.
        palette : {"display", "dataset"}
            `display_colors`, or `colors`, those of the mask file.
        outlines : bool
            Draw the borders of classes in their full color.
        legend : bool
            Name the classes in a corner of the picture, if there is room.

        Returns
        -------
        PIL.Image.Image
            RGB, of the photo's size.
        """
        if not 0 <= alpha <= 1:
            raise ArgumentError(f"alpha (={alpha!r}) must be from 0 to 1")
        if palette not in get_args(Palette):
            raise ArgumentError(f"palette (={palette!r}) must be one of {', '.join(get_args(Palette))}")
        colors = self.display_colors if palette == "display" else self.colors
        weights = np.full(len(self.labels), round(256 * alpha), np.uint16)
        if self._background is not None:
            weights[self._background] = 0
        picture = blend(self.photo, self.label_map, colors, weights)
        free = np.zeros(self.label_map.shape, bool) if self._background is None else self._is(self._background)
        if outlines:
            # A line in the color of the class and, where it meets the background, one of white around it.
            edge = outline(self.label_map, outline_width(*self.label_map.shape))
            picture[edge] = np.where(free[edge, None], np.uint8(255), colors[self.label_map[edge]])
        from PIL import Image

        image = Image.fromarray(picture)
        if legend:
            draw_legend(image, self._entries(colors), free)
        return image

    def show(self) -> None:
        """Open the overlay in the system's image viewer."""
        self.overlay().show(title=self.source)

    def plot(self, axes: Any = None) -> Any:
        """Draw the overlay into axes of Matplotlib, with the legend beside it.

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
        axes = plot_picture(self.overlay(legend=False), self.source, axes)
        from matplotlib.patches import Patch

        handles = [Patch(color=_hex(entry.color), label=entry.text) for entry in self._entries()]
        axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, frameon=False)
        return axes

    def mask(self, label: str | int) -> NDArray[np.bool_]:
        """Where a class is [shape=(height, width)]: True at its pixels.

        Parameters
        ----------
        label : str or int
            Name or number of a class of the model, whether or not it occurs.
        """
        return self._is(self._index(label))

    def cutout(self, label: str | int, *, crop: bool = True) -> Image.Image:
        """The pixels of a class on a transparent ground.

        Parameters
        ----------
        label : str or int
            Name or number of a class that occurs.
        crop : bool
            Cut the picture to the class; False keeps the photo's size.

        Returns
        -------
        PIL.Image.Image
            RGBA.
        """
        from PIL import Image

        mask = self.mask(label)
        if not mask.any():
            found = ", ".join(region.label for region in self.legend)
            raise ArgumentError(f"label (={label!r}) must be a class that occurs: {found}")
        image = Image.fromarray(self.photo)
        image.putalpha(Image.fromarray(mask).convert("L"))
        return image.crop(image.getchannel("A").getbbox()) if crop else image

    def to_image(self) -> Image.Image:
        """The label map as a palette image: pixel values are class indices, shown in the data set's colors.

        Raises
        ------
        ValueError
            If there are more classes than a palette has colors.
        """
        from PIL import Image

        if len(self.labels) > MAX_COLORS:
            raise ArgumentError(f"a palette holds {MAX_COLORS} classes, got {len(self.labels)}; store label_map itself")
        image = Image.fromarray(self.label_map.astype(np.uint8))
        image.putpalette(self.colors.tobytes())
        return image

    def save(self, mask: str | Path | None = None, overlay: str | Path | None = None, *, alpha: float = 0.5) -> None:
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
        from PIL import Image

        if mask is None and overlay is None:
            raise ArgumentError("save needs a file name for the mask, for the overlay or for both, got none")
        if mask is not None and Path(mask).suffix.lower() != ".png":
            raise ArgumentError(f"mask (={str(mask)!r}) must end in .png, which keeps labels exactly")
        if overlay is not None and Path(overlay).suffix.lower() not in Image.registered_extensions():
            raise ArgumentError(f"overlay (={str(overlay)!r}) must end in the suffix of an image format: .png, .jpg, …")
        if mask is not None:
            write_picture(self.to_image(), mask)
        if overlay is not None:
            write_picture(self.overlay(alpha), overlay)

    @cached_property
    def _background(self) -> int | None:
        """Number of the class that is drawn on no picture."""
        return self.labels.index(BACKGROUND) if BACKGROUND in self.labels else None

    def _is(self, index: int) -> NDArray[np.bool_]:
        where: NDArray[np.bool_] = self.label_map == index
        return where

    def _index(self, label: str | int) -> int:
        if isinstance(label, str) and label in self.labels:
            return self.labels.index(label)
        if isinstance(label, (int, np.integer)) and not isinstance(label, bool) and 0 <= label < len(self.labels):
            return int(label)
        import difflib

        near = difflib.get_close_matches(str(label), self.labels, 3) or self.labels[:3]
        raise ArgumentError(
            f"label (={label!r}) must be the name or number of one of the {len(self.labels)} classes, "
            f"such as {', '.join(near)}"
        )

    def _entries(self, colors: NDArray[np.uint8] | None = None) -> list[Entry]:
        """What a legend lists: the classes that occur, but for the background."""
        colors = self.display_colors if colors is None else colors
        return [
            Entry((int(colors[r.index][0]), int(colors[r.index][1]), int(colors[r.index][2])), r.label)
            for r in self.legend
            if r.index != self._background
        ]

    # --- text --------------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        """The file, its size and the largest classes."""
        height, width = self.label_map.shape
        shown = [f"{percent(r.share)} {r.label}" for r in self.legend[:_SHOWN]]
        more = [f"… {len(self.legend) - _SHOWN} more"] if len(self.legend) > _SHOWN else []
        name = f" {self.source}" if self.source else ""
        return f"<Segmentation{name}, {width} × {height}: {', '.join([*shown, *more])}>"

    def __str__(self) -> str:
        """A table of the classes that occur: share, index, color and label."""
        height, width = self.label_map.shape
        lines = [f"{self.source or 'photo'}  {width} × {height} pixels"]
        lines += [f"  {percent(r.share):>6}  {r.index:4d}  {r.color}  {r.label}" for r in self.legend]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """The overlay and the table: what notebooks show."""
        swatches = ["" if r.index == self._background else _hex(self.display_colors[r.index]) for r in self.legend]
        rows = [(swatch, percent(r.share), str(r.index), r.label) for swatch, r in zip(swatches, self.legend)]
        return html_figure(self.source or "", thumbnail(self.overlay(legend=False)), rows)

    def to_dict(self) -> SegmentationDict:
        """Plain values, for JSON: the legend, not the pixels."""
        height, width = self.label_map.shape
        legend = [region.to_dict() for region in self.legend]
        return SegmentationDict(source=self.source, width=width, height=height, legend=legend)

    def to_json(self) -> str:
        """One line of JSON."""
        return json_line(self.to_dict())

    def to_csv(self, header: bool = True) -> str:
        """Lines of CSV: source, index, label, color, pixels, share."""
        columns = ["source", *(f.name for f in fields(Region))]
        return csv_lines(columns, ([self.source or "", *astuple(region)] for region in self.legend), header)


def colors_for(labels: Sequence[str]) -> NDArray[np.uint8]:
    """Color of every class [shape=(classes, 3)]: of the data set that has these labels, or Pascal VOC's in turn."""
    for dataset in ("voc", "cityscapes", "ade20k"):
        if tuple(labels) == segmentation_labels(dataset):
            return color_map(dataset)
    return voc_colors(MAX_COLORS)[np.arange(len(labels)) % MAX_COLORS]


def _hex(color: Iterable[int]) -> str:
    return "#" + bytes(map(int, color)).hex()
