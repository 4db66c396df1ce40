"""Where in a photo a classifier sees a class: the class activation map, over the photo."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from npmnv2.kernels import Array
from npmnv2.results.class_map import Grid, sampled
from npmnv2.results.pictures import thumbnail, write_picture
from npmnv2.results.tables import html_figure, percent

if TYPE_CHECKING:
    from PIL import Image

# What speaks for the class and what against it, as on maps of temperatures.
FOR, AGAINST = (255, 72, 0), (0, 110, 255)
# Weight of the color where the map is largest; of the rest of the photo shines through.
_STRONGEST = 0.75
# Brightness of what the network does not see.
_UNSEEN = 0.35


@dataclass(frozen=True, eq=False, repr=False)
class HeatMap:
    """How much every place of a photo adds to the logit of a class.

    The classifier is linear in the pooled map of the last convolution, so its logit is a sum over the places of that
    map: ``logit = bias + mean(contributions)``, with nothing left out. A place sees more of the photo than it covers.

    Attributes
    ----------
    contributions : Array [shape=(h, w)]
        Of every place of the last convolution's map.
    index : int
        Number of the class.
    label : str
    score : float
        Probability of the class, 0…1.
    logit, bias : float
    photo : uint8 [shape=(height, width, 3)]
    grid : Grid
        Where the photo's pixels lie on the map.
    seen : (slice, slice)
        Rows and columns of the photo that the network was shown.
    source : str or None
        Name of the file.

    Notes
    -----
    Zhou et al., *Learning Deep Features for Discriminative Localization* (arXiv 1512.04150), section 2.
    """

    contributions: Array
    index: int
    label: str
    score: float
    logit: float
    bias: float
    photo: NDArray[np.uint8]
    grid: Grid
    seen: tuple[slice, slice]
    source: str | None = None

    @cached_property
    def heat(self) -> Array:
        """The contributions, bilinearly between the places, for every pixel of the photo; 0 where it was cut off."""
        heat = np.zeros(self.photo.shape[:2], self.contributions.dtype)
        for rows, values in sampled(self.contributions[..., None], self.grid):
            heat[rows] = values[..., 0]
        unseen = np.ones(heat.shape, bool)
        unseen[self.seen] = False
        heat[unseen] = 0
        return heat

    def overlay(self) -> Image.Image:
        """The photo in gray; orange where it speaks for the class, blue where against, dark where it was cut off."""
        from PIL import Image

        gray = np.asarray(Image.fromarray(self.photo).convert("L"), np.float32)[..., None]
        heat = self.heat[..., None]
        weight = _STRONGEST * np.abs(heat) / (np.abs(heat).max() or 1)
        mixed = gray * (1 - weight) + weight * np.where(
            heat >= 0, np.array(FOR, np.float32), np.array(AGAINST, np.float32)
        )
        shown = np.repeat(gray * _UNSEEN, 3, axis=-1)
        shown[self.seen] = mixed[self.seen]
        return Image.fromarray(np.rint(shown).astype(np.uint8))

    def save(self, path: str | Path) -> None:
        """Write the overlay; the suffix names the format. Atomic.

        Raises
        ------
        ArgumentError
            If the suffix is not that of an image format.
        """
        write_picture(self.overlay(), path)

    def show(self) -> None:
        """Open the overlay in the system's viewer."""
        self.overlay().show()

    def __repr__(self) -> str:
        """The file, the class, and its probability."""
        return f"<HeatMap{f' {self.source}' if self.source else ''}: {percent(self.score)} {self.label}>"

    def __str__(self) -> str:
        """The class and the sum of its logit."""
        mean = float(self.contributions.mean())
        logit = f"logit {self.logit:.3f} = {self.bias:.3f} + {mean:.3f}, the bias and the mean of the map"
        return f"{self.source or 'photo'}  {percent(self.score)}  {self.index}  {self.label}\n  {logit}"

    def _repr_html_(self) -> str:
        """The overlay beside the class: what notebooks show."""
        rows = [(percent(self.score), str(self.index), self.label), (f"{self.logit:.3f}", "", "logit")]
        return html_figure(self.source or "", thumbnail(self.overlay()), rows)
