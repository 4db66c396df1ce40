"""Faults of quantized layers: another scale or zero point, another rounding.

The exact value before rounding is computed in real numbers, so that other ways to round it can be tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from npmnv2.kernels import Array
from npmnv2.lab.faults import FAULTS, Hypothesis, Suspect

# Gains closer to 1 than this are what rounding does to a fit.
_SAME_GAIN = 0.01
_ROUNDINGS: dict[str, Callable[[Array], Array]] = {
    "down": np.floor,
    "up": np.ceil,
    "toward zero": np.trunc,
}


def quantization_hypotheses(
    suspect: Suspect, exact: Array, scale: float, limits: tuple[float, float]
) -> Iterator[Hypothesis]:
    """Other scales and roundings.

    Parameters
    ----------
    suspect : Suspect
        Its call's value is the reference's, in integers, as real numbers.
    exact : Array
        The layer's value before rounding, after its activation.
    scale : float
        Step of the reference.
    limits : (low, high)
        Real numbers between which the type can hold values.
    """
    seen, expected = suspect.seen, suspect.call.value()
    if seen is None or seen.shape != expected.shape:
        return
    yield from _other_scale(suspect, expected, seen, scale, limits)
    for how, rounding in _ROUNDINGS.items():
        value = np.clip(rounding(exact / scale) * scale, *limits)
        sentence = f"{FAULTS['quantization_rounding']}: {how}"
        evidence = {"mean_steps": float((seen - expected).mean() / scale)}
        yield _with_value("quantization_rounding", sentence, suspect, value, evidence)


def _other_scale(
    suspect: Suspect, expected: Array, seen: Array, scale: float, limits: tuple[float, float]
) -> Iterator[Hypothesis]:
    inside = (expected > limits[0]) & (expected < limits[1]) & (seen > limits[0]) & (seen < limits[1])
    if inside.sum() < 16:
        return
    a, b = expected[inside].astype(np.float64), seen[inside].astype(np.float64)
    gain = float(a @ b / (a @ a)) if a.any() else 1.0
    if abs(gain - 1) > _SAME_GAIN:
        sentence = f"{FAULTS['quantization_scale']}: {gain:.4g} times the scale"
        yield _with_value("quantization_scale", sentence, suspect, expected * gain, {"gain": gain})
    shift = float(np.median(b - a)) / scale
    if abs(shift) >= 1:
        sentence = f"{FAULTS['quantization_scale']}: the zero point is off by {-round(shift)}"
        moved = expected + round(shift) * scale
        value = np.minimum(moved, limits[1]) if shift > 0 else np.maximum(moved, limits[0])
        yield _with_value("quantization_scale", sentence, suspect, value, {"steps": shift})


def _with_value(fault: str, sentence: str, suspect: Suspect, value: Array, evidence: dict[str, float]) -> Hypothesis:
    changed = replace(suspect.call, activation="linear", after=(), compute=lambda *_: value)
    return Hypothesis(fault, sentence, changed, evidence)
