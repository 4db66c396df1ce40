"""How near are near duplicates, and how far are different photos? The measurement behind the default threshold.

    python benchmarks/near_duplicates.py FOLDER [--model NAME]

Every photo of the folder is changed in many ways; the least cosine between a photo and what became of it stands beside
the largest ones between different photos. The two halves of a photo count as different photos of a similar thing.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

import npmnv2
from npmnv2.images.folders import photos_in

THRESHOLDS = (0.8, 0.85, 0.9, 0.95)

Change = Callable[[Image.Image], Image.Image]


def recoded(format: str, quality: int) -> Change:
    def change(photo: Image.Image) -> Image.Image:
        file = io.BytesIO()
        photo.save(file, format, quality=quality)
        return Image.open(file).convert("RGB")

    return change


def scaled(factor: float) -> Change:
    return lambda photo: photo.resize((max(64, round(photo.width * factor)), max(64, round(photo.height * factor))))


def cropped(share: float) -> Change:
    """The middle, so that `share` of each side is left."""

    def change(photo: Image.Image) -> Image.Image:
        x, y = round(photo.width * (1 - share) / 2), round(photo.height * (1 - share) / 2)
        return photo.crop((x, y, photo.width - x, photo.height - y))

    return change


def watermarked(photo: Image.Image) -> Image.Image:
    changed = photo.copy()
    size = photo.height / 8
    ImageDraw.Draw(changed).text((photo.width / 6, photo.height * 0.75), "© A. Photographer", "white", font_size=size)
    return changed


CHANGES: dict[str, Change] = {
    "JPEG, quality 90": recoded("JPEG", 90),
    "JPEG, quality 50": recoded("JPEG", 50),
    "JPEG, quality 20": recoded("JPEG", 20),
    "WebP, quality 50": recoded("WEBP", 50),
    "half the size": scaled(1 / 2),
    "a quarter of the size": scaled(1 / 4),
    "95 % of each side": cropped(0.95),
    "90 % of each side": cropped(0.9),
    "80 % of each side": cropped(0.8),
    "20 % darker": lambda photo: ImageEnhance.Brightness(photo).enhance(0.8),
    "20 % brighter": lambda photo: ImageEnhance.Brightness(photo).enhance(1.2),
    "20 % more contrast": lambda photo: ImageEnhance.Contrast(photo).enhance(1.2),
    "a watermark": watermarked,
    "mirrored": ImageOps.mirror,
    "without color": lambda photo: photo.convert("L").convert("RGB"),
    "turned by 5°": lambda photo: cropped(0.85)(photo.rotate(5, Image.Resampling.BICUBIC)),
}


def unit(vectors: list[np.ndarray]) -> np.ndarray:
    rows = np.stack(vectors)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def halves(photo: Image.Image) -> list[Image.Image]:
    middle = photo.width // 2
    return [photo.crop((0, 0, middle, photo.height)), photo.crop((middle, 0, photo.width, photo.height))]


def row(name: str, cosines: np.ndarray) -> str:
    found = " | ".join(f"{(cosines >= threshold).mean():.0%}" for threshold in THRESHOLDS)
    return f"| {name} | {cosines.min():.2f} | {np.median(cosines):.2f} | {found} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="mobilenet_v2_1.0_224_quant")
    options = parser.parse_args()
    model = npmnv2.load(options.model)
    paths = photos_in(options.folder, recursive=True)
    photos = [Image.open(path).convert("RGB") for path in paths]
    originals = unit(model.features(photos))
    head = " | ".join(f"found at {threshold}" for threshold in THRESHOLDS)
    print(
        f"{len(photos)} photos\n\n| change | least cosine | median | {head} |\n|---|---|---|{'---|' * len(THRESHOLDS)}"
    )
    for name, change in CHANGES.items():
        print(row(name, (originals * unit(model.features([change(photo) for photo in photos]))).sum(axis=1)))
    sides = unit(model.features([half for photo in photos for half in halves(photo)]))
    print(row("left half against right half", (sides[::2] * sides[1::2]).sum(axis=1)))
    cosines = originals @ originals.T
    first, second = np.triu_indices(len(photos), 1)
    order = np.argsort(-cosines[first, second])
    print("\nNearest pairs of different photos:")
    for at in order[:10]:
        print(f"{cosines[first[at], second[at]]:.3f} {paths[first[at]].name} {paths[second[at]].name}")


if __name__ == "__main__":
    main()
