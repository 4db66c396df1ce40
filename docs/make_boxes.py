"""Draw the README's picture of detection: a photo with the boxes that a detector finds on it.

The photo is Matplotlib's "grace_hopper": a portrait of Rear Admiral Grace Hopper by James S. Davis, U.S. Navy,
which is in the public domain.

    python docs/make_boxes.py MODEL [PICTURE]
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib import cbook
from PIL import Image

import npmnv2

PICTURE = Path(__file__).parent / "images" / "detection.jpg"
HEIGHT = 600


def main(model: str, picture: str | Path = PICTURE) -> None:
    """Find what is on the photo, print it, and write the picture."""
    photo = cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    result = npmnv2.load(model, task="detection").predict(photo)
    print(result)
    drawn = result.overlay()
    drawn.resize((round(drawn.width * HEIGHT / drawn.height), HEIGHT), Image.Resampling.LANCZOS).save(
        picture, quality=88, optimize=True
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
