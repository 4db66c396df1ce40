"""`compare`: two runs of one network on one photo, layer by layer, and what is wrong where they part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np

from npmnv2.errors import ArgumentError
from npmnv2.kernels import Array, softmax
from npmnv2.lab.adapters.interface import Adapter
from npmnv2.lab.adapters.selection import open_side
from npmnv2.lab.alignment import align, completed
from npmnv2.lab.comparison import (
    TOLERANCE,
    Comparison,
    Finding,
    are_probabilities,
    compare_traces,
    not_comparable,
)
from npmnv2.lab.environment import environment
from npmnv2.network.architecture import CLASSIFIER
from npmnv2.network.plan import IMAGE

__all__ = ["compare"]


def compare(
    reference: Any,
    other: Any,
    photo: Any,
    *,
    tolerance: float = TOLERANCE,
    own_input: bool = False,
    diagnose: bool = True,
) -> Comparison:
    """Compare two runs of one network layer by layer; name the first that differs and, where the fault is known, why.

    Parameters
    ----------
    reference, other
        A model, a name or path (with ``@`` and words such as ``@float64``, ``@numpy``, ``@litert``), a Keras model, a
        PyTorch module, or activations by name: a mapping, an `.npz` or an `.h5` file. See
        `npmnv2.lab.adapters.selection.open_side`.
    photo
        As `predict` takes it; or a float array (N, H, W, C) that is the network's input already.
    tolerance : float
        A layer diverges where it differs by more than this share of its largest value. Where a side has
        ``precision="bf16"`` the two agree, too, if every layer differs by no more than bfloat16's worst case from
        what the reference makes of the same inputs.
    own_input : bool
        Let each model prepare the photo in its own way. Without it both see what the reference makes of it.
    diagnose : bool
        Look for known faults (`npmnv2.lab.diagnosis`): for that, one side's weights must be readable here.

    Returns
    -------
    Comparison

    Raises
    ------
    ArgumentError
        If `tolerance` is no number of at least 0, if neither side is a network that npmnv2 knows, so that nothing says
        which layer is which, or if neither can prepare the photo.
    FileNotFoundError, WeightsError, MissingPackageError, ImageError
    """
    if not isinstance(tolerance, Real) or not tolerance >= 0:
        raise ArgumentError(f"tolerance (={tolerance!r}) must be a number of at least 0")
    sides = open_side(reference), open_side(other)
    x = network_input(sides[0], sides[1], photo)
    other_x = sides[1].model.prepare([photo]) if own_input and _prepares(sides[1]) and not _is_input(photo) else x
    judge = next((side.model for side in sides if side.model is not None), None)
    if judge is None:
        return _compare_by_name(*sides, x, tolerance)
    expected = {IMAGE: x, **judge.trace(x)}
    first = expected if sides[0].runtime == "npmnv2" else align(sides[0].taps(x), judge.plan, expected)[0]
    second, scales, _ = align(sides[1].taps(other_x), judge.plan, expected)
    values = second
    judged = judge is sides[0].model and judge.quantization is None
    rounded = _rounded(judge, values, x) if judged and _in_bfloat16(*sides) else frozenset()
    findings: tuple[Finding, ...] = ()
    remarks: tuple[str, ...] = ()
    if diagnose and judge is sides[0].model:
        from npmnv2.lab import diagnosis

        findings = diagnosis.diagnose(
            judge, second, x, photo=None if _is_input(photo) else photo, scales=scales, rounded=rounded
        )
        if not scales and judge.quantization is None:
            strange = diagnosis.unexplained(judge, second, x, findings, rounded)
            remarks = (f"no known fault explains what is off at {', '.join(strange)}",) if strange else ()
    if IMAGE not in first or IMAGE not in second or np.array_equal(first[IMAGE], second[IMAGE]):
        # Only an input that differs is worth a line.
        first, second = ({name: v for name, v in values.items() if name != IMAGE} for values in (first, second))
    remarks += _agree_on_probabilities(first, second)
    found = Comparison(
        sides[0].label,
        sides[1].label,
        compare_traces(first, second, scales if sides[0].scales or not scales else None),
        findings,
        not_comparable(first, second),
        tolerance,
        remarks,
        environment(),
        x[0],
    )
    if rounded.issuperset(part.name for part in judge.plan.parts()):
        return replace(found, only_rounds=not findings and IMAGE not in first)
    in_integers = bool(sides[0].scales and scales) and judge is sides[0].model
    return replace(found, only_rounds=True) if in_integers and _only_rounds(found, judge, values, x, scales) else found


def _in_bfloat16(*sides: Adapter) -> bool:
    return any(getattr(side.model, "precision", "") == "bf16" for side in sides)


def _rounded(judge: Any, values: dict[str, Array], x: Array) -> frozenset[str]:
    """Layers of a run that differ from the reference, on their own inputs, by no more than bfloat16's rounding."""
    from npmnv2.lab.error_model import rounded_to_bfloat16

    return rounded_to_bfloat16(judge, completed({IMAGE: x, **values}, judge.plan))


def _only_rounds(found: Comparison, judge: Any, values: Mapping[str, Array], x: Array, scales: Any) -> bool:
    """Whether two quantized networks that part have nothing but rounding between them."""
    from npmnv2.lab import diagnosis

    return found.first_divergent is not None and not found.findings and diagnosis.only_rounds(judge, values, x, scales)


def network_input(first: Adapter, second: Adapter, photo: Any) -> Array:
    """The input that both sides take: the photo as the first of them prepares it that can.

    Raises
    ------
    ArgumentError
        If neither can.
    """
    if _is_input(photo):
        return np.asarray(photo)
    for side in (first, second):
        if _prepares(side):
            prepared: Array = side.model.prepare([photo])
            return prepared
    raise ArgumentError(
        "photo must be the network's input, a float array (N, H, W, C), where neither side knows how to prepare one"
    )


def _is_input(photo: Any) -> bool:
    return isinstance(photo, np.ndarray) and photo.ndim == 4 and photo.dtype.kind == "f"


def _prepares(side: Adapter) -> bool:
    return side.model is not None


def _compare_by_name(first: Adapter, second: Adapter, x: Array, tolerance: float) -> Comparison:
    """Two sides that no network of ours explains: values of equal names, in the order of the first."""
    a, b = ({tap.name: tap.value for tap in side.taps(x)} for side in (first, second))
    if not set(a) & set(b):
        raise ArgumentError(
            "one side must be a network that npmnv2 reads, or both must have values of the same names; "
            f"{first.label} has {', '.join([*a][:3])}, …, {second.label} {', '.join([*b][:3])}, …"
        )
    return Comparison(
        first.label, second.label, compare_traces(a, b), (), not_comparable(a, b), tolerance, (), environment(), x[0]
    )


def _agree_on_probabilities(first: dict[str, Array], second: dict[str, Array]) -> tuple[str, ...]:
    """Where one side has probabilities and the other logits, compare probabilities."""
    if CLASSIFIER not in first or CLASSIFIER not in second:
        return ()
    logits = [values for values in (first, second) if not are_probabilities(values[CLASSIFIER])]
    if len(logits) != 1:
        return ()
    logits[0][CLASSIFIER] = softmax(logits[0][CLASSIFIER])
    return (f"{CLASSIFIER}: one side gives probabilities, so those are compared",)
