"""Ranges of quantization-aware training: from FakeQuant operations to integers.

TensorFlow 1's `tf.contrib.quantize` puts an operation FakeQuantWithMinMaxVars after every activation and after every
folded kernel, and trains beside the weights where their ranges begin and end. It names them by the scope of the layer:

======================================== ==========================================================================
``…/weights_quant``                      the kernel, batch norm folded in, in the narrow range (no lowest integer)
``…/act_quant``                          the layer's result
``…/conv_quant``                         a projection's result before the addition, in an older scheme
``…/add_quant``, ``…/post_activation_bypass_quant``  the sum of a residual connection
======================================== ==========================================================================

A global pool has none: it keeps the scale of its input. The image has none either: published networks take bytes as
``(pixel − 128) / 128``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from npmnv2.errors import WeightsError
from npmnv2.network.layers import Add, Concat, Conv, Dense, Depthwise
from npmnv2.network.plan import IMAGE, Plan
from npmnv2.network.quantization import FAKE_QUANT, check_quantization, value_parts
from npmnv2.weights.assemble import in_order, plan_for
from npmnv2.weights.checkpoint import Checkpoint, fold_batch_norms
from npmnv2.weights.names import split
from npmnv2.weights.quantize import Range, quantize_network

from .names import canonical_from_slim
from .tflite_integers import pixel_statistics

_TRAINED = (Conv, Depthwise, Dense, Add)
IMAGE_RANGE = (-1.0, 127 / 128)
_KINDS = "weights_quant|act_quant|conv_quant|add_quant|post_activation_bypass_quant"
VARIABLE = re.compile(rf"(?P<scope>.*)/(?P<kind>{_KINDS})/(?P<end>min|max)")
OPERATION = re.compile(rf"(?P<scope>.*)/(?P<kind>{_KINDS})/FakeQuantWithMinMaxVars")


def range_name(scope: str, kind: str) -> str | None:
    """The kernel (``<layer>/kernel``) or value that a range belongs to; None for a scope that is no layer's."""
    if kind in ("add_quant", "post_activation_bypass_quant"):
        known = canonical_from_slim(f"{scope}/project/weights")
        return f"{split(known)[0].removesuffix('_project')}_add" if known else None
    known = canonical_from_slim(f"{scope}/weights") or canonical_from_slim(f"{scope}/depthwise_weights")
    if known is None or kind == "weights_quant":
        return known
    return split(known)[0]


def are_ranges(names: Iterable[str]) -> bool:
    """Whether some of a checkpoint's variables belong to fake quantization."""
    return any(VARIABLE.fullmatch(name) for name in names)


def ranges_of_variables(names: Iterable[str], value_of: Callable[[str], Any]) -> dict[str, Range]:
    """The ranges that a checkpoint's variables hold, by kernel or value."""
    ends: dict[str, dict[str, float]] = {}
    for name in names:
        found = VARIABLE.fullmatch(name)
        known = range_name(found["scope"], found["kind"]) if found else None
        if found and known:
            ends.setdefault(known, {})[found["end"]] = float(value_of(name).reshape(-1)[0])
    return {known: (pair["min"], pair["max"]) for known, pair in ends.items() if len(pair) == 2}


def with_ranges(checkpoint: Checkpoint, ranges: Mapping[str, Range], where: str) -> Checkpoint:
    """The checkpoint in integers, as TensorFlow's converter makes them of trained ranges.

    Raises
    ------
    WeightsError
        If a range is missing or cannot be one.
    """
    assert checkpoint.config is not None
    plan = plan_for(checkpoint.config, checkpoint.weights)
    found = {IMAGE: IMAGE_RANGE, **ranges}
    _derive(plan, found)
    missing = [name for name in _needed(plan) if name not in found]
    if missing:
        raise WeightsError(f"{where}: lacks the ranges of fake quantization of {', '.join(missing[:8])}")
    wrong = [name for name, (low, high) in found.items() if not -1e6 < low <= 0 <= high < 1e6 or low == high]
    if wrong:
        raise WeightsError(f"{where}: {wrong[0]} has the range {found[wrong[0]]}, which must hold 0 and more")
    weights, quantization = quantize_network(
        plan, fold_batch_norms(plan, checkpoint.weights), found, "uint8", "average_pool"
    )
    quantization = replace(quantization, arithmetic=FAKE_QUANT)
    check_quantization(plan, weights, quantization, where)
    statistics = pixel_statistics(quantization.values[IMAGE])
    return replace(
        checkpoint,
        weights=in_order(plan, weights),
        quantization=quantization,
        preprocessing={**checkpoint.preprocessing, **statistics},
    )


def _derive(plan: Plan, ranges: dict[str, Range]) -> None:
    """Give every part that training has no range for that of what it takes; what is joined gets the widest."""
    for part in value_parts(plan):
        sources = [ranges[name] for name in part.inputs if name in ranges]
        if part.name not in ranges and sources and not isinstance(part.layer, _TRAINED):
            joins = isinstance(part.layer, Concat)
            ranges[part.name] = _widest(sources) if joins else sources[0]


def _widest(ranges: list[Range]) -> Range:
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _needed(plan: Plan) -> Iterable[str]:
    for part in value_parts(plan):
        yield part.name
        if isinstance(part.layer, (Conv, Depthwise, Dense)):
            yield f"{part.name}/kernel"
