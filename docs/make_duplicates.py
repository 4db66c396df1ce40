"""Draw the picture of near duplicates: the groups that `npmnv2.duplicates` finds among changed copies of two photos.

The cat is in the package. The other photo is Matplotlib's "grace_hopper": a portrait of Rear Admiral Grace Hopper by
James S. Davis, U.S. Navy, which is in the public domain.

    python docs/make_duplicates.py [PICTURE]
"""

from __future__ import annotations

import sys
import tempfile
from importlib import resources
from pathlib import Path

from matplotlib import cbook
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

import npmnv2

PICTURE = Path(__file__).parent / "images" / "duplicates.webp"
HEIGHT, MARGIN, TEXT = 150, 8, 15


def write_copies(name: str, photo: Image.Image, folder: Path) -> None:
    """Write a photo, and what becomes of photos on their way through the world."""
    x, y = photo.width // 20, photo.height // 20
    marked = photo.copy()
    ImageDraw.Draw(marked).text((2 * x, 16 * y), "© somebody", "white", font_size=photo.height / 9)
    copies = {
        "": photo,
        "cropped": photo.crop((x, y, photo.width - x, photo.height - y)),
        "half the size": photo.resize((photo.width // 2, photo.height // 2)),
        "darker": ImageEnhance.Brightness(photo).enhance(0.7),
        "marked": marked,
        "mirrored": ImageOps.mirror(photo),
    }
    for change, copy in copies.items():
        copy.save(folder / f"{f'{name} {change}'.strip()}.jpg", quality=80 if change else 95)


def strip(group: npmnv2.DuplicateGroup) -> Image.Image:
    """The photos of a group in a row, each above its similarity to the first."""
    tiles = [tile(photo.source, "keep" if photo is group.keep else f"{photo.similarity:.3f}") for photo in group]
    return joined(tiles, horizontally=True)


def tile(source: str, text: str) -> Image.Image:
    with Image.open(source) as photo:
        small = photo.resize((round(photo.width * HEIGHT / photo.height), HEIGHT), Image.Resampling.LANCZOS)
    drawn = Image.new("RGB", (small.width, HEIGHT + 2 * TEXT), "white")
    drawn.paste(small)
    ImageDraw.Draw(drawn).text((small.width / 2, HEIGHT + TEXT), text, "black", anchor="mm", font_size=TEXT)
    return drawn


def joined(pictures: list[Image.Image], horizontally: bool) -> Image.Image:
    along = 0 if horizontally else 1
    length = sum(picture.size[along] + MARGIN for picture in pictures) - MARGIN
    across = max(picture.size[1 - along] for picture in pictures)
    drawn = Image.new("RGB", (length, across) if horizontally else (across, length), "white")
    at = 0
    for picture in pictures:
        drawn.paste(picture, (at, 0) if horizontally else (0, at))
        at += picture.size[along] + MARGIN
    return drawn


def main(picture: str | Path = PICTURE) -> None:
    """Make the photos, group them, print the groups and write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        cat = Image.open(str(resources.files("npmnv2") / "data" / "cat.jpg")).convert("RGB")
        write_copies("cat", cat, Path(folder))
        hopper = Image.open(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)).convert("RGB")
        write_copies("hopper", hopper, Path(folder))
        groups = npmnv2.duplicates(folder, index=Path(folder, "index.sqlite"))
        print(*groups, sep="\n")
        joined([strip(group) for group in groups], horizontally=False).save(picture, quality=80, method=6)


if __name__ == "__main__":
    main(*sys.argv[1:])
