"""The result of comparing two runs of one network: how far every layer is off, where they part, and why.

`npmnv2.compare` makes a `Comparison`. It prints as a table with a verdict, and goes to JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from npmnv2.errors import ArgumentError
from npmnv2.kernels import Array

TOLERANCE = 1e-3
# Upper ends of the classes of `LayerDifference.histogram`, as shares of the layer's largest value. The first class
# holds the values that are equal, the last those beyond all ends.
HISTOGRAM_ENDS = (0.0, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
# A value of a quantized network that is off by this many steps of its scale has diverged: one step is rounding.
DIVERGED_STEPS = 1.5


class UlpQuantiles(NamedTuple):
    """Quantiles of the differences in units in the last place: 50 %, 90 %, 99 % and the largest."""

    median: float
    p90: float
    p99: float
    largest: float


@dataclass(frozen=True)
class LayerDifference:
    """How one layer's value differs between two runs.

    Attributes
    ----------
    name : str
        The endpoint's name, as `plan.endpoints` has it.
    shape : tuple of int
        Of the values that were compared: (N, H, W, C) or (N, C).
    scale : float
        Largest absolute value of the reference.
    largest, mean : float
        Largest and mean absolute difference; NaN if there is one.
    relative : float
        `largest` as a share of `scale`.
    ulps : UlpQuantiles
        Differences in units in the last place of each value, in the coarser of the two number types. A value counts as
        at least epsilon times `scale`, so that zeros do not give astronomical numbers.
    cosine : float
        Of the angle between the two: 1 if they differ by a factor only.
    snr : float
        Signal-to-noise ratio in dB: infinite for equal values.
    differing : float
        Share of values that are not equal.
    steps : float or None
        `largest` in units of the layer's quantization scale; None for a layer without one.
    histogram : tuple of int
        Counts of values by their difference as a share of `scale`: equal, then up to each of `HISTOGRAM_ENDS`, then
        more (or NaN).
    error_map : Array [shape=(H, W)] or None
        Mean absolute difference over batch and channels, for a picture; None for a layer without height and width.
    """

    name: str
    shape: tuple[int, ...]
    scale: float
    largest: float
    mean: float
    relative: float
    ulps: UlpQuantiles
    cosine: float
    snr: float
    differing: float
    steps: float | None
    histogram: tuple[int, ...]
    error_map: Array | None = field(default=None, repr=False, compare=False)

    def within(self, tolerance: float) -> bool:
        """Whether the two agree here: within a share of the largest value or, in integers, within rounding."""
        if self.steps is not None:
            return self.steps < DIVERGED_STEPS
        return self.relative <= tolerance

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it: without the map; None for what is not finite."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("error_map", "ulps")}
        return dict(_finite({**fields, "ulps": self.ulps._asdict()}))


@dataclass(frozen=True)
class Finding:
    """A known fault, found at one layer.

    Attributes
    ----------
    fault : str
        Its name: one of the keys of `npmnv2.lab.diagnosis.FAULTS`.
    layer : str
        Where it is.
    sentence : str
        What is wrong, for people.
    evidence : dict of str to float or str
        The numbers that show it: always ``error_before`` and ``error_after``, the layer's root-mean-square difference
        from the reference as it is and with the fault put in, as shares of the layer's own root mean square.
    """

    fault: str
    layer: str
    sentence: str
    evidence: Mapping[str, float | str] = field(default_factory=dict)

    def __str__(self) -> str:
        numbers = ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in self.evidence.items())
        return f"{self.layer}: {self.sentence} [{self.fault}; {numbers}]"

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        shown = {"fault": self.fault, "layer": self.layer, "sentence": self.sentence, "evidence": self.evidence}
        return dict(_finite(shown))


@dataclass(frozen=True)
class Comparison:
    """Two runs of one network side by side.

    Attributes
    ----------
    reference, other : str
        What was compared.
    layers : tuple of LayerDifference
        In the order in which they are computed.
    findings : tuple of Finding
        Known faults, each at the layer where it is.
    left_out : tuple of str
        Layers that only one has, or that differ in shape.
    tolerance : float
        A layer diverges where it differs by more than this share of its largest value.
    remarks : tuple of str
        What else a reader should know, such as that probabilities were compared instead of logits.
    environment : dict
        Machine and versions (`npmnv2.lab.environment`).
    image : Array [shape=(H, W, C)] or None
        The network's input, to be shown beside the error maps.
    only_rounds : bool
        Of a quantized network: whether each layer is within one step of what the reference makes of the same inputs,
        so that larger differences are rounding that adds up. With bfloat16, whether each is within that type's
        rounding of it.
    """

    reference: str
    other: str
    layers: tuple[LayerDifference, ...]
    findings: tuple[Finding, ...] = ()
    left_out: tuple[str, ...] = ()
    tolerance: float = TOLERANCE
    remarks: tuple[str, ...] = ()
    environment: Mapping[str, str | int] = field(default_factory=dict)
    image: Array | None = field(default=None, repr=False, compare=False)
    only_rounds: bool = False

    @property
    def first_divergent(self) -> LayerDifference | None:
        """The first layer that differs by more than the tolerance: where to look for the fault of a port."""
        if self.only_rounds:
            return None
        return next((layer for layer in self.layers if not layer.within(self.tolerance)), None)

    @property
    def worst(self) -> LayerDifference | None:
        """The layer that differs most, as a share of its largest value; None if there are no layers."""
        return max(self.layers, key=lambda layer: _or_infinite(layer.relative), default=None)

    @property
    def agree(self) -> bool:
        """Whether the two agree as far as they can be compared."""
        return bool(self.layers) and self.first_divergent is None and not self.findings

    @property
    def verdict(self) -> str:
        """One sentence about the whole."""
        remark = f"; not compared: {_first_of(self.left_out)}" if self.left_out else ""
        if not self.layers:
            return f"the two have no layer in common{remark}"
        if self.findings:
            first = self.findings[0]
            more = f"; {len(self.findings) - 1} more" if len(self.findings) > 1 else ""
            return f"{first.layer} is the first layer with a known fault: {first.sentence}{more}{remark}"
        return f"{self._about_layers()}{remark}"

    def _about_layers(self) -> str:
        parting, worst = self.first_divergent, self.worst
        assert worst is not None
        if parting is not None and parting.steps is not None:
            return (
                f"{parting.name} is the first layer that differs by more than rounding (by {parting.steps:.1f} steps)"
            )
        if parting is not None:
            what = f"differs by more than {self.tolerance:g} of its largest value (by {parting.relative:.1e})"
            return f"{parting.name} is the first layer that {what}"
        if worst.largest == 0:
            return "all layers are equal, bit for bit"
        if self.only_rounds and worst.steps is None:
            return (
                "every layer is within bfloat16's rounding of what the reference makes of the same inputs: it adds up "
                f"to {worst.relative:.1e} at {worst.name}"
            )
        if self.only_rounds:
            furthest = max(self.layers, key=lambda layer: layer.steps or 0.0)
            return (
                "every layer is within one step of what the reference makes of the same inputs: only rounding adds up, "
                f"to {furthest.steps:.1f} steps at {furthest.name}"
            )
        return f"all layers agree within {self.tolerance:g}; {worst.name} differs most, by {worst.relative:.1e}"

    def __str__(self) -> str:
        parts = [f"reference: {self.reference}\nother:     {self.other}", difference_table(self.layers)]
        parts += ["\n".join(str(finding) for finding in self.findings)] if self.findings else []
        return "\n\n".join([*parts, "\n".join([*self.remarks, self.verdict])])

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pictures, as JSON takes it."""
        return {
            "reference": self.reference,
            "other": self.other,
            "verdict": self.verdict,
            "agree": self.agree,
            "first_divergent": self.first_divergent.name if self.first_divergent else None,
            "tolerance": self.tolerance,
            "layers": [layer.to_dict() for layer in self.layers],
            "findings": [finding.to_dict() for finding in self.findings],
            "left_out": list(self.left_out),
            "remarks": list(self.remarks),
            "environment": dict(self.environment),
        }

    def to_json(self, indent: int | None = None) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False, allow_nan=False)


# --- measuring --------------------------------------------------------------------------------------------------------


def layer_difference(name: str, reference: Array, other: Array, scale: float | None = None) -> LayerDifference:
    """Compare two arrays of one shape; `scale` is the step of a quantized layer.

    Raises
    ------
    ArgumentError
        If the shapes differ.
    """
    if reference.shape != other.shape:
        raise ArgumentError(f"{name} must have shape {reference.shape} in both, got {other.shape}")
    a, b = reference.astype(np.float64), other.astype(np.float64)
    error = np.abs(a - b)
    largest, peak = float(error.max(initial=0.0)), float(np.abs(a).max(initial=0.0))
    noise, signal = float(np.square(error).sum()), float(np.square(a).sum())
    return LayerDifference(
        name=name,
        shape=reference.shape,
        scale=peak,
        largest=largest,
        mean=float(error.mean()) if error.size else 0.0,
        relative=largest / peak if peak else largest,
        ulps=_ulps(a, error, peak, coarser(reference, other)),
        cosine=_cosine(a, b, largest),
        snr=decibels(signal, noise),
        differing=float(np.count_nonzero(error != 0) / error.size) if error.size else 0.0,
        steps=None if scale is None else largest / scale,
        histogram=_histogram(error, peak),
        error_map=error.mean(axis=(0, 3)) if error.ndim == 4 else None,
    )


def decibels(signal: float, noise: float) -> float:
    """Ratio of two energies in dB."""
    if noise == 0:
        return math.inf
    return float(10 * np.log10(signal / noise)) if signal else -math.inf


def coarser(*arrays: Array) -> np.dtype[Any]:
    """The number type with the largest epsilon; integers count as float32."""
    types = [x.dtype if np.issubdtype(x.dtype, np.floating) else np.dtype(np.float32) for x in arrays]
    return max(types, key=lambda dtype: float(np.finfo(dtype).eps))


def _ulps(a: Array, error: Array, peak: float, dtype: np.dtype[Any]) -> UlpQuantiles:
    if not error.size or not error.any():
        return UlpQuantiles(0.0, 0.0, 0.0, 0.0)
    info: Any = np.finfo(dtype)
    floor = max((peak or float(np.nanmax(error))) * float(info.eps), float(info.tiny))
    units = np.exp2(np.floor(np.log2(np.maximum(np.abs(a), floor)))) * float(info.eps)
    return UlpQuantiles(*(float(q) for q in np.quantile(error / units, (0.5, 0.9, 0.99, 1.0))))


def _cosine(a: Array, b: Array, largest: float) -> float:
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return min(float(np.vdot(a, b)) / norms, 1.0) if norms and largest else float(largest == 0)


def _histogram(error: Array, peak: float) -> tuple[int, ...]:
    ends = np.array(HISTOGRAM_ENDS) * (peak or 1.0)
    # NaN belongs to none and counts as far away.
    classes = np.searchsorted(ends, np.where(np.isnan(error), np.inf, error).ravel())
    return tuple(int(count) for count in np.bincount(classes, minlength=len(ends) + 1))


def compare_traces(
    reference: Mapping[str, Array], other: Mapping[str, Array], scales: Mapping[str, float] | None = None
) -> tuple[LayerDifference, ...]:
    """Compare two traces (`model.trace`) layer by layer, in the order of the first.

    Layers that only one has, or that differ in shape, are left out (see `not_comparable`). Where one network has 1001
    classes and the other 1000, the background, class 0 of the larger one, is left out.
    """
    pairs = [(name, *without_background(value, other[name])) for name, value in reference.items() if name in other]
    steps = scales or {}
    return tuple(layer_difference(name, a, b, steps.get(name)) for name, a, b in pairs if a.shape == b.shape)


def not_comparable(reference: Mapping[str, Array], other: Mapping[str, Array]) -> tuple[str, ...]:
    """Names of the layers of two traces that `compare_traces` leaves out."""
    fits = {
        name
        for name, value in reference.items()
        if name in other and len({x.shape for x in without_background(value, other[name])}) == 1
    }
    return tuple(name for name in dict.fromkeys([*reference, *other]) if name not in fits)


def without_background(a: Array, b: Array) -> tuple[Array, Array]:
    """Scores of ImageNet's classes, without the background where only one of the two has it."""
    widths = a.shape[-1:], b.shape[-1:]
    return (a[..., 1:] if widths == ((1001,), (1000,)) else a), (b[..., 1:] if widths == ((1000,), (1001,)) else b)


def are_probabilities(scores: Array) -> bool:
    """Whether scores (…, classes) are not negative and add up to 1, as logits hardly ever do."""
    return bool(scores.min() >= 0 and np.allclose(scores.sum(-1), 1, atol=1e-3))


def difference_table(layers: Sequence[LayerDifference]) -> str:
    """Layer by layer: largest and mean difference, share of the largest value, units in the last place, SNR, …"""
    stepped = any(layer.steps is not None for layer in layers)
    head = f"{'layer':26} {'largest':>9} {'mean':>9} {'relative':>9} {'ulps 50%':>9} {'99%':>9} {'1-cosine':>9}"
    lines = [f"{head} {'SNR dB':>7} {'differ':>7}" + (f" {'steps':>7}" if stepped else "")]
    for layer in layers:
        ulps = " ".join(f"{u:9.1f}" if u < 1e6 else f"{u:9.1e}" for u in (layer.ulps.median, layer.ulps.p99))
        line = f"{layer.name:26} {layer.largest:9.2e} {layer.mean:9.2e} {layer.relative:9.2e} {ulps}"
        line += f" {1 - layer.cosine:9.1e} {layer.snr:7.1f} {layer.differing:7.1%}"
        lines.append(line + (f" {_steps(layer.steps):>7}" if stepped else ""))
    return "\n".join(lines)


def _steps(steps: float | None) -> str:
    return "–" if steps is None else f"{steps:.1f}"


def _first_of(names: Sequence[str], count: int = 3) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def _or_infinite(number: float) -> float:
    return math.inf if math.isnan(number) else number


def _finite(value: Any) -> Any:
    """The same with None for every number that JSON does not have."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
