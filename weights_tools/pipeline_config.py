"""The settings of a detector in ``pipeline.config``, the file of the Object Detection API beside its checkpoints.

The graph beside a checkpoint of a training run ends with losses; how scores and boxes are made of the network's outputs
is said here alone. The file is a protocol buffer as text. Fields that are not of the detector are skipped.
Fields and defaults: research/object_detection/protos of tensorflow/models (``ssd``, ``ssd_anchor_generator``,
``faster_rcnn_box_coder``, ``post_processing``, ``image_resizer``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from npmnv2.errors import WeightsError
from npmnv2.network.detection import AnchorOptions, NonMaxSuppression, SSDConfig
from npmnv2.weights.assemble import Content
from npmnv2.weights.bounds import read_bytes

PIPELINE_FILE = "pipeline.config"
_MAX_BYTES, _MAX_DEPTH = 1 << 20, 32
_TOKEN = re.compile(
    r"""(?:\s|\#[^\n]*)+
    | (?P<text> "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*' )
    | (?P<word> [\w.+-]+ )
    | (?P<sign> [{}<>\[\]:,;] )""",
    re.VERBOSE,
)

Message = dict[str, list[Any]]


def with_pipeline(path: Path, content: Content) -> Content:
    """A detector's weights, and what the configuration of its training says of their use.

    Raises
    ------
    WeightsError
        If the file is damaged, or states what npmnv2 does not compute.
    """
    ssd = _inside(parse(path), "model", "ssd")
    if not ssd:  # of a different kind of detector, or of none
        return content
    try:
        stated = {**_head(ssd), **_boxes(ssd, path), **_post_processing(ssd, path)}
        SSDConfig(**{**content.ssd, **stated})
        if size := _inside(ssd, "image_resizer", "fixed_shape_resizer"):
            height, width = (int(_number(size, side, 0)) for side in ("height", "width"))
            known = {**content.known, "image_size": max(height, width)}
            shape = {} if height == width else {"size": [height, width]}
            content = replace(content, known=known, preprocessing={"preset": "ssd", **shape})
    except WeightsError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise WeightsError(f"{path}: states impossible settings: {error}") from None
    return replace(content, ssd={**content.ssd, **stated})


# --- what it states ---------------------------------------------------------------------------------------------------


def _head(ssd: Message) -> dict[str, Any]:
    return {"background": _flag(ssd, "add_background_class", True)}


def _boxes(ssd: Message, path: Path) -> dict[str, Any]:
    """Anchors and box coder."""
    stated: dict[str, Any] = {}
    if "anchor_generator" in ssd:
        options = _only(_inside(ssd, "anchor_generator"), "ssd_anchor_generator", path)
        for side in ("base_anchor_height", "base_anchor_width"):
            if _number(options, side, 1.0) != 1:
                raise WeightsError(f"{path}: states {side} {_number(options, side, 1.0):g}, which is not supported")
        stated["anchors"] = AnchorOptions(
            _number(options, "min_scale", 0.2),
            _number(options, "max_scale", 0.95),
            tuple(map(float, options.get("scales", ()))),
            tuple(map(float, options.get("aspect_ratios", ()))),
            _number(options, "interpolated_scale_aspect_ratio", 1.0),
            _flag(options, "reduce_boxes_in_lowest_layer", True),
        )
    if "box_coder" in ssd:
        coder = _only(_inside(ssd, "box_coder"), "faster_rcnn_box_coder", path)
        defaults = {"y_scale": 10.0, "x_scale": 10.0, "height_scale": 5.0, "width_scale": 5.0}
        stated["box_scales"] = tuple(_number(coder, name, default) for name, default in defaults.items())
    return stated


def _post_processing(ssd: Message, path: Path) -> dict[str, Any]:
    """Scores and suppression."""
    if "post_processing" not in ssd:
        return {}
    found = _inside(ssd, "post_processing")
    if (scale := _number(found, "logit_scale", 1.0)) != 1:
        raise WeightsError(f"{path}: divides its logits by {scale:g}, which is not supported")
    suppression = _inside(found, "batch_non_max_suppression")
    return {
        "score_converter": str(found.get("score_converter", ["IDENTITY"])[-1]).lower(),
        "nms": NonMaxSuppression(
            score_threshold=_number(suppression, "score_threshold", 0.0),
            iou_threshold=_number(suppression, "iou_threshold", 0.6),
            suppression="agnostic" if _flag(suppression, "use_class_agnostic_nms", False) else "per_class",
            max_per_class=int(_number(suppression, "max_detections_per_class", 100)),
            max_detections=int(_number(suppression, "max_total_detections", 100)),
        ),
    }


def _inside(message: Message, *names: str) -> Message:
    """The message in a message; an empty one if there is none. Of several the last counts."""
    for name in names:
        inner = message.get(name, [{}])[-1]
        message = inner if isinstance(inner, dict) else {}
    return message


def _only(message: Message, name: str, path: Path) -> Message:
    if other := [each for each in message if each != name]:
        raise WeightsError(f"{path}: states {other[0]}, must be {name}")
    return _inside(message, name)


def _number(message: Message, name: str, default: float) -> float:
    return float(message.get(name, [default])[-1])


def _flag(message: Message, name: str, default: bool) -> bool:
    return str(message.get(name, [default])[-1]).lower() in ("true", "t", "1")


# --- protocol buffers as text -----------------------------------------------------------------------------------------


def parse(path: Path) -> Message:
    """All fields by name, as lists: of words, and of messages, which are dictionaries of the same kind.

    Raises
    ------
    WeightsError
    """
    data = read_bytes(path)
    if len(data) > _MAX_BYTES:
        raise WeightsError(f"{path}: must be at most {_MAX_BYTES} bytes, got {len(data)}")
    root: Message = {}
    # The messages that are open, and the names of the lists that are open in them.
    stack, lists, name = [root], [""], ""
    for token in _tokens(bytes(data), path):
        if token in "{<":
            message: Message = {}
            stack[-1].setdefault(name, []).append(message)
            stack.append(message)
            lists.append("")
            name = ""
        elif token in "}>":
            stack.pop()
            lists.pop()
            name = lists[-1] if lists else ""
        elif token in "[]":
            lists[-1] = name = name if token == "[" else ""
        elif token in ":,;":
            continue
        elif name:
            stack[-1].setdefault(name, []).append(token)
            name = lists[-1]
        else:
            name = token
        if not 1 <= len(stack) <= _MAX_DEPTH:
            raise WeightsError(f"{path}: its braces do not match, or are nested more than {_MAX_DEPTH} deep")
    if len(stack) != 1:
        raise WeightsError(f"{path}: its braces do not match")
    return root


def _tokens(data: bytes, path: Path) -> Iterator[str]:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise WeightsError(f"{path}: is not text") from None
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            line = text.count("\n", 0, position) + 1
            raise WeightsError(f"{path}: is not a protocol buffer as text; see line {line}")
        position = match.end()
        if match.lastgroup is not None:
            yield match[0]
