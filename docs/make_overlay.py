"""Draw the README's picture: a photo beside what a segmentation model sees on it.

The photo is scikit-image's "astronaut": NASA's portrait of Eileen Collins, which is in the public domain.

    python docs/make_overlay.py MODEL [PICTURE]
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image
from skimage.data import astronaut

import npmnv2

PICTURE = Path(__file__).parent / "images" / "segmentation.jpg"
SIDE, GAP = 400, 8


def main(model: str, picture: str | Path = PICTURE) -> None:
    """Segment the photo, print the legend, and write both panels as one picture."""
    photo = astronaut()
    result = npmnv2.load(model).predict(photo)
    print(result)
    panels = [
        image.resize((SIDE, SIDE), Image.Resampling.LANCZOS) for image in (Image.fromarray(photo), result.overlay())
    ]
    canvas = Image.new("RGB", (2 * SIDE + GAP, SIDE), "white")
    for position, panel in enumerate(panels):
        canvas.paste(panel, (position * (SIDE + GAP), 0))
    canvas.save(picture, quality=88, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
