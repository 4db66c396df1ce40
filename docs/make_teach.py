"""Teach the package's classifier the ten digits of scikit-learn, and draw their confusion matrix.

The digits have 8×8 pixels. The last ones are set aside.

    python docs/make_teach.py [PICTURE]
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

import npmnv2

PICTURE = Path(__file__).parent / "images" / "teach.png"
TAUGHT = 1297

mpl.use("Agg")


def digits(part: slice) -> dict[str, list[Image.Image]]:
    """Pictures of 96×96 pixels by their digit."""
    found = load_digits()
    images: dict[str, list[Image.Image]] = {str(digit): [] for digit in range(10)}
    for pixels, digit in zip(found.images[part], found.target[part]):
        small = Image.fromarray((pixels * 255 / 16).astype(np.uint8))
        images[str(digit)].append(small.resize((96, 96), Image.Resampling.BICUBIC))
    return images


def main(picture: str | Path = PICTURE) -> None:
    """Teach, print the report, and draw its matrix."""
    report = npmnv2.teach(digits(slice(TAUGHT)), test=digits(slice(TAUGHT, None))).report
    print(report)
    axes = report.plot()
    axes.figure.set_size_inches(5, 5)
    axes.figure.savefig(picture, dpi=100, bbox_inches="tight", pil_kwargs={"optimize": True})


if __name__ == "__main__":
    main(*sys.argv[1:])
