"""SSD detectors in TFLite files: which convolution is which layer of the head, and what follows the network.

The head is found from its end. Boxes and scores are what the operator ``TFLite_Detection_PostProcess`` takes or, in
files without it, what the graph returns; both are concatenations of what one predictor for each feature map says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from npmnv2.errors import ArgumentError, ArgumentTypeError, WeightsError
from npmnv2.network.detection import Extra, NonMaxSuppression
from npmnv2.network.ssd import BOX_CODE, BOX_PREDICTOR, CLASS_PREDICTOR, extra_names, predictor

from .flexbuffer import numbers
from .tflite import Model, Operator

POSTPROCESS = "TFLite_Detection_PostProcess"
# What may stand between a predictor and the end of the network.
_PASSING = ("RESHAPE", "SQUEEZE", "CONCATENATION", "QUANTIZE", "DEQUANTIZE", "LOGISTIC", "SOFTMAX", "RELU6")
_CONVERTERS = {"LOGISTIC": "sigmoid", "SOFTMAX": "softmax"}
_FIRST_EXTRA = 2
_STAGE = re.compile(r"layer_19_(?P<half>[12])_Conv2d_(?P<number>\d+)_(?:1x1|3x3_s2)_\d+(?P<depthwise>_depthwise)?")
_SCALES = ("y_scale", "x_scale", "h_scale", "w_scale")


class Head(NamedTuple):
    """The end of a detector's network.

    Attributes
    ----------
    names : dict
        By the number of the tensor that a predictor's convolution makes, its layer.
    converters : set of str
        Kinds of operators between the class predictors and the end.
    postprocess : Operator or None
    """

    names: dict[int, str]
    converters: set[str]
    postprocess: Operator | None = None


def find_head(model: Model) -> Head:
    """The predictors of a detector; none if the graph is no detector's.

    Raises
    ------
    WeightsError
        If it has not as many predictors of boxes as of classes.
    """
    producers = {number: operator for operator in model.operators for number in operator.outputs}
    postprocess = next((op for op in model.operators if op.kind == POSTPROCESS), None)
    ends = postprocess.inputs[:2] if postprocess else _ends(model, producers)
    if len(ends) != 2:
        return Head({}, set())
    converters: set[str] = set()
    boxes = list(_predictors(model, producers, ends[0], set()))
    classes = list(_predictors(model, producers, ends[1], converters))
    if len(boxes) != len(classes):
        raise WeightsError(f"{model.path}: has {len(boxes)} predictors of boxes and {len(classes)} of classes")
    names: dict[int, str] = {}
    for kind, operators in ((BOX_PREDICTOR, boxes), (CLASS_PREDICTOR, classes)):
        for number, operator in enumerate(operators):
            names.update(_names(producers, operator, predictor(number, kind)))
    return Head(names, converters, postprocess)


def _ends(model: Model, producers: dict[int, Operator]) -> tuple[int, ...]:
    """The outputs that hold boxes and scores, in this order."""
    if len(model.outputs) != 2 or not all(_is_joined(producers, number) for number in model.outputs):
        return ()
    boxes = [number for number in model.outputs if "box" in model.name(number).lower()]
    boxes = boxes or [number for number in model.outputs if model.shape(number)[-1:] == (BOX_CODE,)]
    if not boxes:
        return ()
    first, second = model.outputs
    return (first, second) if boxes[0] == first else (second, first)


def _is_joined(producers: dict[int, Operator], number: int) -> bool:
    for _ in range(len(_PASSING)):
        operator = producers.get(number)
        if operator is None or operator.kind not in _PASSING or not operator.inputs:
            return False
        if operator.kind == "CONCATENATION":
            return True
        number = operator.inputs[0]
    return False


def _predictors(
    model: Model, producers: dict[int, Operator], number: int, passed: set[str], depth: int = 0
) -> Iterator[Operator]:
    """The convolutions behind a tensor, in the order in which they are joined."""
    model.budget.step()
    operator = producers.get(number)
    if operator is None or depth > 2 * len(_PASSING):
        return
    if operator.kind == "CONV_2D":
        yield operator
    elif operator.kind in _PASSING:
        passed.add(operator.kind)
        for source in operator.inputs if operator.kind == "CONCATENATION" else operator.inputs[:1]:
            yield from _predictors(model, producers, source, passed, depth + 1)


def _names(producers: dict[int, Operator], operator: Operator, name: str) -> Iterator[tuple[int, str]]:
    """A predictor's convolution and, in SSDLite, the depthwise one before it."""
    if not operator.inputs or not operator.outputs:
        return
    yield operator.outputs[0], name
    before = producers.get(operator.inputs[0])
    if before is not None and before.kind == "DEPTHWISE_CONV_2D" and before.outputs:
        yield before.outputs[0], f"{name}_depthwise"


# --- extra feature maps -----------------------------------------------------------------------------------------------


def extra_layer(model: Model, operator: Operator, before: str) -> str | None:
    """The layer that makes a further feature map of what the layer `before` makes."""
    depthwise = operator.kind == "DEPTHWISE_CONV_2D"
    if before == "Conv_1":
        return None if depthwise else _squeeze(model, operator, _FIRST_EXTRA)
    match = _STAGE.fullmatch(before)
    if match is None:
        return None
    if match["depthwise"]:
        return None if depthwise else before.removesuffix("_depthwise")
    number = int(match["number"])
    if match["half"] == "2":
        return None if depthwise else _squeeze(model, operator, number + 1)
    last = _consumer(model, operator) if depthwise else operator
    filters = _filters(model, last) if last else None
    if filters is None:
        return None
    name = extra_names(number, Extra(1, filters))[1]
    return f"{name}_depthwise" if depthwise else name


def _squeeze(model: Model, operator: Operator, number: int) -> str | None:
    filters = _filters(model, operator)
    return None if filters is None else extra_names(number, Extra(filters, 1))[0]


def _consumer(model: Model, operator: Operator) -> Operator | None:
    following = (op for op in model.operators if op.kind == "CONV_2D" and op.inputs[:1] == operator.outputs[:1])
    return next(following, None)


def _filters(model: Model, operator: Operator) -> int | None:
    shape = model.shape(operator.inputs[1]) if len(operator.inputs) > 1 else ()
    return shape[0] if len(shape) == 4 else None


# --- post-processing --------------------------------------------------------------------------------------------------


def settings_of(model: Model, head: Head, classes: int) -> dict[str, Any]:
    """Settings for `SSDConfig` that a file shows.

    Parameters
    ----------
    model : Model
    head : Head
    classes : int
        Columns of the class logits.

    Raises
    ------
    WeightsError
        If a setting is impossible.
    """
    converter = next((_CONVERTERS[kind] for kind in _CONVERTERS if kind in head.converters), None)
    if head.postprocess is None:
        return {"background": classes > 1, **({} if converter is None else {"score_converter": converter})}
    options = numbers(head.postprocess.custom_options, model.budget)
    if not {"num_classes", *_SCALES} <= options.keys():
        raise WeightsError(f"{model.path}: the options of {POSTPROCESS} lack {', '.join(_SCALES)} or num_classes")
    try:
        return {
            "background": classes == options["num_classes"] + 1,
            "score_converter": converter or "identity",
            "box_scales": tuple(options[name] for name in _SCALES),
            "nms": _suppression(options),
        }
    except (ArgumentError, ArgumentTypeError) as error:
        raise WeightsError(f"{model.path}: its post-processing has impossible settings: {error}") from None


def _suppression(options: dict[str, float]) -> NonMaxSuppression:
    """The defaults are those of TensorFlow Lite's operator."""
    return NonMaxSuppression(
        score_threshold=_shortest(options.get("nms_score_threshold", 0.0)),
        iou_threshold=_shortest(options.get("nms_iou_threshold", 0.6)),
        suppression="per_class" if options.get("use_regular_nms") else "agnostic",
        max_per_class=int(options.get("detections_per_class", 100)),
        max_detections=int(options.get("max_detections", 100)),
        clipping="never",
        rule="tflite",
        classes_per_detection=int(options.get("max_classes_per_detection", 1)),
    )


def _shortest(number: float) -> float:
    """The shortest decimal that is this float32."""
    return float(str(np.float32(number)))
