"""What 8 bits cost: a float classifier quantized in every way, beside itself, on crops of photos.

    python benchmarks/quantization.py MODEL PHOTO … [--crops 10] [--json FILE]

Each photo gives `--crops` crops to compare on and a few others to calibrate with, half of them mirrored.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from recorded import QUANTIZATION

import npmnv2
from npmnv2.images.loading import load_image
from npmnv2.lab.comparison import decibels
from npmnv2.weights.calibration import METHODS

CALIBRATION_CROPS = 3


def schemes() -> Iterator[dict[str, Any]]:
    """Arguments of `model.quantize`: all methods as they come, then what corrections change."""
    for dtype in ("int8", "uint8"):
        for method in METHODS:
            yield {"dtype": dtype, "method": method, "correct_biases": True, "equalize": False}
        for corrected, equalize in itertools.product((False, True), repeat=2):
            if (corrected, equalize) != (True, False):
                yield {"dtype": dtype, "method": "minmax", "correct_biases": corrected, "equalize": equalize}


def crops(photo: Any, count: int, seed: int) -> Iterator[np.ndarray]:
    """Squares of half to all of the shorter side, anywhere."""
    rng = np.random.default_rng(seed)
    pixels = np.asarray(load_image(photo))
    for _ in range(count):
        side = int(min(pixels.shape[:2]) * rng.uniform(0.5, 1))
        top, left = (rng.integers(0, length - side + 1) for length in pixels.shape[:2])
        crop = pixels[top : top + side, left : left + side]
        yield np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)


def measure(model: Any, photos: Sequence[Any], count: int) -> dict[str, Any]:
    """Figures of every scheme, as JSON takes them."""
    calibration = [crop for seed, photo in enumerate(photos) for crop in crops(photo, CALIBRATION_CROPS, seed)]
    compared = [crop for seed, photo in enumerate(photos) for crop in crops(photo, count, 1000 + seed)]
    exact = logits(model, compared)
    rows = []
    for scheme in schemes():
        found = logits(model.quantize(calibration, **scheme), compared)
        same = (found.argmax(axis=1) == exact.argmax(axis=1)).mean()
        snr = decibels(float((exact**2).sum()), float(((exact - found) ** 2).sum()))
        rows.append({**scheme, "snr": round(snr, 1), "agreement": round(float(same), 3)})
        print(rows[-1], flush=True)
    numbers = {"photos": len(photos), "crops": len(compared), "calibration": len(calibration)}
    return {"network": network_name(model), **numbers, "rows": rows}


def network_name(model: Any) -> str:
    return f"{model.config.depth_multiplier:g}_{model.config.image_size}"


def logits(model: Any, images: Sequence[np.ndarray]) -> np.ndarray:
    output = model.plan.nodes[-1].name
    rows = [model.run(model.prepare([image]), [output])[output] for image in images]
    return np.concatenate(rows).astype(np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a classifier of real numbers")
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO")
    parser.add_argument("--crops", type=int, default=10, help="of every photo")
    parser.add_argument("--json", type=Path, default=QUANTIZATION, metavar="FILE")
    options = parser.parse_args()
    found = measure(npmnv2.load(options.model), sorted(options.photos), options.crops)
    options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
