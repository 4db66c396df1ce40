"""Faults of what a network is given: channel order, scaling, resize and crop, layout.

Where the suspect shows its input, that is compared. Where it does not, the first layer tells: before its activation it
is linear in the input, so gain and offset follow by least squares, and any other input is put in and compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from npmnv2.kernels import Array
from npmnv2.lab.faults import FAULTS, LAYOUTS, Call, Hypothesis, Suspect
from npmnv2.network.activations import activation
from npmnv2.network.plan import IMAGE

# Ranges that are in use, as gain and offset from −1…1.
_RANGES = {
    (0.5, 0.5): "0…1",
    (127.5, 127.5): "0…255",
    (0.5, 0.0): "−0.5…0.5",
    (127.5, 0.0): "−127.5…127.5",
    (127.5 / 128, -0.5 / 128): "(x − 128) / 128",
}
# An input is the same but for its scaling if gain and offset leave this share of it.
_SAME_LINE = 1e-3


class Candidate(NamedTuple):
    """An input that the suspect may have had: which faults make it, and the pixels."""

    faults: tuple[tuple[str, str], ...]
    x: Array


def candidates(x: Array, photo: Any = None) -> Iterator[Candidate]:
    """Inputs with one or two faults; the simplest first."""
    prepared = [Candidate((), x), *_other_preparations(x, photo)]
    for base in prepared:
        yield base
        if x.shape[-1] == 3:
            fault = ("channel_order", FAULTS["channel_order"])
            yield Candidate((*base.faults, fault), np.ascontiguousarray(base.x[..., ::-1]))
    for how, change in LAYOUTS.items():
        changed = change(x)
        if changed.shape == x.shape:
            yield Candidate((("layout", f"{FAULTS['layout']} ({how})"),), np.ascontiguousarray(changed))


def _other_preparations(x: Array, photo: Any) -> Iterator[Candidate]:
    """The photo as the presets and other filters would make it, at the size of `x` and with its range."""
    if photo is None:
        return
    from npmnv2.images.processor import MobileNetV2ImageProcessor

    size = x.shape[1:3]
    for preset in ("hf", "slim", "keras"):
        for resample in ("own", 0, 2, 3, 1, "tf1"):
            made = MobileNetV2ImageProcessor.preset(preset, size)
            if resample != "own":
                made.resample = resample
            try:
                other = made.to_array([photo]).astype(x.dtype)
            except ValueError:
                continue
            if other.shape == x.shape and not np.array_equal(other, x):
                name = f"{preset}, {_FILTERS[resample]}"
                yield Candidate((("resize", f"{FAULTS['resize']}: the photo is prepared as by {name}"),), other)


_FILTERS: dict[Any, str] = {
    "own": "with its own filter", 0: "nearest", 1: "Lanczos", 2: "bilinear", 3: "bicubic", "tf1": "TensorFlow 1",
}  # fmt: skip


class Explanation(NamedTuple):
    """A candidate, what scaling remains, and the root-mean-square error that is left, as a share of what was seen."""

    faults: tuple[tuple[str, str], ...]
    gain: float
    offset: float
    error: float
    x: Array


def scaling(gain: float, offset: float) -> tuple[str, str]:
    """The fault of another scaling, in words."""
    near = next(
        (name for (g, o), name in _RANGES.items() if abs(gain / g - 1) < 0.01 and abs(offset - o) < 0.01 * g), ""
    )
    known = f", as of an input in {near} instead of −1…1" if near else ""
    return (
        "input_scale",
        f"{FAULTS['input_scale']}: {gain:.4g}·x {'+' if offset >= 0 else '−'} {abs(offset):.4g}{known}",
    )


def explain_image(seen: Array, tries: Iterator[Candidate]) -> Explanation | None:
    """The simplest candidate that, up to gain and offset, is the input that was seen."""
    return _best(tries, lambda x: _line(x, seen))


def explain_first_layer(suspect: Suspect, tries: Iterator[Candidate]) -> Explanation | None:
    """The simplest candidate that, up to gain and offset, makes the first layer's value that was seen."""
    if suspect.seen is None:
        return None
    seen, call = suspect.seen, suspect.call
    return _best(tries, lambda x: _through(call, x, seen))


def _best(
    tries: Iterator[Candidate], measure: Callable[[Array], tuple[float, float, float, Array]]
) -> Explanation | None:
    found: list[Explanation] = []
    for candidate in tries:
        gain, offset, error, x = measure(candidate.x)
        scaled = abs(gain - 1) > _SAME_LINE or abs(offset) > _SAME_LINE
        faults = (*candidate.faults, *([scaling(gain, offset)] if scaled else []))
        if faults and np.isfinite(error):
            found.append(Explanation(faults, gain, offset, error, x))
    # Of explanations that are equally good the one with the fewest faults.
    return min(found, key=lambda e: (round(np.log10(e.error + 1e-7)), len(e.faults), e.error), default=None)


def _line(x: Array, seen: Array) -> tuple[float, float, float, Array]:
    if x.shape != seen.shape:
        return 1.0, 0.0, np.inf, x
    a, b = x.astype(np.float64).ravel(), seen.astype(np.float64).ravel()
    gain, offset = _solve(np.stack([a, np.ones_like(a)], 1), b)
    return gain, offset, share(gain * a + offset - b, b), gain * x + offset


def _through(call: Call, x: Array, seen: Array) -> tuple[float, float, float, Array]:
    """Fit on the values that the activation has not cut off, then compare all."""
    assert call.bias is not None
    bare = replace(call, bias=np.zeros_like(call.bias))
    response = replace(bare, inputs=(x,)).linear()
    if response.shape != seen.shape:
        return 1.0, 0.0, np.inf, x
    ones = replace(bare, inputs=(np.ones_like(x),)).linear()
    low, high = activation(call.activation).clip
    free = (seen > low) & (seen < high)
    if free.sum() < 16:
        return 1.0, 0.0, np.inf, x
    columns = np.stack([response[free], ones[free]], 1)
    gain, offset = _solve(columns, (seen - call.bias)[free].astype(np.float64))
    expected = call.finish(gain * response + offset * ones + call.bias)
    return gain, offset, share(expected - seen, seen), gain * x + offset


def _solve(columns: Array, target: Array) -> tuple[float, float]:
    (gain, offset), *_ = np.linalg.lstsq(columns, target, rcond=None)
    return float(gain), float(offset)


def share(error: Array, of: Array) -> float:
    """Root mean square of an error as a share of that of what it is compared with."""
    whole = float(np.sqrt(np.mean(np.square(of, dtype=np.float64))))
    part = float(np.sqrt(np.mean(np.square(error, dtype=np.float64))))
    return part / whole if whole else part


def as_hypotheses(explanation: Explanation, call: Call) -> list[Hypothesis]:
    """One hypothesis per fault of the input, with the numbers of the fit."""
    changed = replace(call, inputs=(explanation.x, *call.inputs[1:]))
    numbers = {"gain": explanation.gain, "offset": explanation.offset}
    return [
        Hypothesis(fault, sentence, changed, numbers if fault == "input_scale" else {}, IMAGE)
        for fault, sentence in explanation.faults
    ]
