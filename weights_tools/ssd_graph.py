"""The settings of a detector that its graph shows: image size, anchors, box coder, scores, non-maximum suppression.

Graphs of TensorFlow's Object Detection API hold what comes before and after the network as operations, under names that
have stayed the same since 2017: ``Preprocessor``, ``MultipleGridAnchorGenerator``, ``Postprocessor``. What a graph
leaves out, as TensorFlow.js's do, has its default.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from npmnv2.errors import ArgumentError, ArgumentTypeError, WeightsError
from npmnv2.network.detection import AnchorOptions, NonMaxSuppression
from npmnv2.weights.bounds import Array

from .graph import Graph, Operation

_PREPROCESSING, _ANCHORS, _POSTPROCESSING = "Preprocessor/", "MultipleGridAnchorGenerator/", "Postprocessor/"
_SUPPRESSION = re.compile(r"NonMaxSuppressionV[2-5]")
_BOUND = re.compile(r".*MultiClassNonMaxSuppression/Minimum(?:_(?P<number>\d+))?")
_CLIPPING = "/ClipToWindow/"
_FACTOR, _OFFSET = 2 / 255, 1.0
# Numbers in a graph are float32.
_DIGITS = 6


def settings_of(graph: Graph, classes: int) -> dict[str, Any]:
    """Settings for `SSDConfig` that a graph shows.

    Parameters
    ----------
    graph : Graph
    classes : int
        Columns of the class logits.

    Raises
    ------
    WeightsError
        If it scales its logits, or a setting is impossible.
    """
    _check_logits(graph)
    try:
        found = {
            "score_converter": _score_converter(graph),
            "background": _background(graph),
            "box_scales": _box_scales(graph),
            "anchors": _anchor_options(graph),
            "nms": _suppression(graph, classes),
        }
    except (ArgumentError, ArgumentTypeError) as error:
        raise WeightsError(f"{graph.path}: its post-processing has impossible settings: {error}") from None
    return {name: value for name, value in found.items() if value is not None}


def input_size(graph: Graph) -> tuple[int, int] | None:
    """Height and width to which the graph resizes photos.

    Raises
    ------
    WeightsError
        If it prepares them for the network in a different way than to −1…1.
    """
    _check_preparation(graph)
    for operation in _inside(graph, _PREPROCESSING, "ResizeBilinear"):
        size = graph.constant(operation.inputs[1]) if len(operation.inputs) > 1 else None
        if size is not None and size.size == 2:
            height, width = (int(side) for side in size.flat)
            return height, width
    return None


def listed_anchors(graph: Graph) -> Array | None:
    """Anchors (n, 4) that the graph lists as (y, x, height, width), None where it computes them."""
    for operation in _inside(graph, _POSTPROCESSING, "Tile"):
        corners = graph.constant(operation.inputs[0]) if operation.inputs else None
        if corners is not None and corners.ndim > 1 and corners.shape[-1] == 4:
            start, end = corners.reshape(-1, 2, 2).astype(np.float64).transpose(1, 0, 2)
            return np.concatenate([(start + end) / 2, end - start], axis=1)
    return None


def _inside(graph: Graph, scope: str, kind: str) -> Iterator[Operation]:
    return (op for op in graph.operations.values() if op.kind == kind and op.name.startswith(scope))


def _number(graph: Graph, name: str) -> float | None:
    """The one number that an input is."""
    value = graph.constant(name)
    # The shortest text that is this float32: 0.6, not 0.60000002.
    return float(str(value.reshape(-1)[0])) if value is not None and value.size == 1 else None


def _check_preparation(graph: Graph) -> None:
    expected = {f"{_PREPROCESSING}mul/x": _FACTOR, f"{_PREPROCESSING}sub/y": _OFFSET}
    for name, number in expected.items():
        found = _number(graph, name)
        if found is not None and abs(found - number) > 1e-6:
            raise WeightsError(
                f"{graph.path}: prepares images in a way that is not supported: {name} is {found:g}, not {number:g}"
            )


def _check_logits(graph: Graph) -> None:
    scale = _number(graph, f"{_POSTPROCESSING}scale_logits/y")
    if scale not in (None, 1):
        raise WeightsError(f"{graph.path}: divides its logits by {scale:g}, which is not supported")


# --- scores and boxes -------------------------------------------------------------------------------------------------


def _score_converter(graph: Graph) -> str | None:
    kinds = {op.kind for op in graph.operations.values() if op.name.startswith(_POSTPROCESSING)}
    if not kinds:
        return None
    return "sigmoid" if "Sigmoid" in kinds else "softmax" if "Softmax" in kinds else "identity"


def _background(graph: Graph) -> bool | None:
    begin = graph.constant(f"{_POSTPROCESSING}Slice/begin")
    return None if begin is None or begin.size != 3 else int(begin.flat[2]) == 1


def _box_scales(graph: Graph) -> tuple[float, ...] | None:
    """By what the graph divides its box codes; an optimizer may have made it multiply."""
    found: list[float] = []
    for number in ("", "_1", "_2", "_3"):
        names = (f"{_POSTPROCESSING}Decode/{word}{number}" for word in ("truediv", "div"))
        operation = next((graph.operations[name] for name in names if name in graph.operations), None)
        scale = _number(graph, operation.inputs[1]) if operation and len(operation.inputs) == 2 else None
        if not scale or operation is None:
            return None
        found.append(round(scale if operation.kind in ("RealDiv", "Div") else 1 / scale, _DIGITS - 2))
    return tuple(found)


# --- anchors ----------------------------------------------------------------------------------------------------------


def _anchor_options(graph: Graph) -> AnchorOptions | None:
    """The options behind the scales and aspect ratios from which the graph computes its anchors."""
    shapes = list(_anchor_shapes(graph))
    if len(shapes) < 2 or any(len(scales) != len(ratios) for scales, ratios in shapes):
        return None
    first, (scales, ratios) = shapes[0], shapes[1]
    interpolated = len(scales) > 1 and scales[-1] != scales[0]
    reduced = first[1] == (1.0, 2.0, 0.5) and first[0][0] == 0.1 and first[0][1] == first[0][2]
    options = AnchorOptions(
        scales=(first[0][-1] if reduced else first[0][0], *(scales[0] for scales, _ in shapes[1:])),
        aspect_ratios=ratios[:-1] if interpolated else ratios,
        interpolated_scale_aspect_ratio=ratios[-1] if interpolated else 0.0,
        reduce_boxes_in_lowest_layer=reduced,
    )
    return _by_range(options)


def _anchor_shapes(graph: Graph) -> Iterator[tuple[tuple[float, ...], tuple[float, ...]]]:
    """Scales and aspect ratios of the anchors of each map: heights are scales / √ratios."""
    for root in _inside(graph, _ANCHORS, "Sqrt"):
        ratios = graph.constant(root.inputs[0]) if root.inputs else None
        for division in graph.consumers.get(root.name, []):
            scales = graph.constant(division.inputs[0]) if division.kind in ("RealDiv", "Div") else None
            if ratios is not None and scales is not None and ratios.size and scales.size:
                yield _rounded(scales), _rounded(ratios)


def _rounded(values: Array) -> tuple[float, ...]:
    return tuple(round(float(value), _DIGITS) for value in values.reshape(-1)[:100])


def _by_range(options: AnchorOptions) -> AnchorOptions:
    """The same options by the first and the last scale, if those between are spaced evenly."""
    low, high, count = options.scales[0], options.scales[-1], len(options.scales)
    even = [low + (high - low) * number / (count - 1) for number in range(count)]
    if max(abs(one - other) for one, other in zip(even, options.scales)) > 10**-_DIGITS:
        return options
    return AnchorOptions(
        low,
        high,
        (),
        options.aspect_ratios,
        options.interpolated_scale_aspect_ratio,
        options.reduce_boxes_in_lowest_layer,
    )


# --- suppression ------------------------------------------------------------------------------------------------------


def _suppression(graph: Graph, classes: int) -> NonMaxSuppression | None:
    operations = [op for op in graph.operations.values() if _SUPPRESSION.fullmatch(op.kind) and len(op.inputs) > 3]
    if not operations:
        return None
    first = operations[0]
    found: dict[str, Any] = {
        "iou_threshold": _number(graph, first.inputs[3]),
        "score_threshold": _score_threshold(graph, first),
        **_bounds(graph, len(operations)),
        # A graph has one operation for every class, if its suppression is per class.
        "suppression": "agnostic" if len(operations) == 1 and classes > 2 else "per_class",
        "clipping": _clipping(graph, first),
    }
    return NonMaxSuppression(**{name: value for name, value in found.items() if value is not None})


def _score_threshold(graph: Graph, suppression: Operation) -> float | None:
    """Of the suppression itself or, in the graphs of 2018, of a filter before it."""
    if len(suppression.inputs) > 4:
        return _number(graph, suppression.inputs[4])
    filters = (op for op in _inside(graph, _POSTPROCESSING, "Greater") if "/FilterGreaterThan" in op.name)
    return next((_number(graph, op.inputs[1]) for op in filters if len(op.inputs) == 2), None)


def _bounds(graph: Graph, operations: int) -> dict[str, int | None]:
    """How many boxes a class, and how many the image may keep: the graph takes minima of those and of what there is."""
    minima: dict[int, int] = {}
    for operation in _inside(graph, _POSTPROCESSING, "Minimum"):
        match = _BOUND.fullmatch(operation.name)
        numbers = [number for name in operation.inputs if (number := _number(graph, name)) is not None]
        if match and numbers and math.isfinite(numbers[0]):
            minima[int(match["number"] or 0)] = int(numbers[0])
    ordered = [minima[number] for number in sorted(minima)]
    if len(ordered) <= operations:
        return {"max_per_class": ordered[0] if ordered else None}
    return {"max_per_class": ordered[0], "max_detections": ordered[-1]}


def _clipping(graph: Graph, suppression: Operation) -> str:
    """Whether the boxes that the suppression takes were clipped before."""
    if not any(_CLIPPING in name for name in graph.operations):
        return "never"
    waiting, seen = [suppression.inputs[0]], {suppression.name}
    while waiting:
        graph.budget.step()
        operation = graph.operations.get(waiting.pop())
        if operation is None or operation.name in seen or "MultiClassNonMaxSuppression" not in operation.name:
            continue
        if _CLIPPING in operation.name:
            return "first"
        seen.add(operation.name)
        waiting += operation.inputs
    return "last"
