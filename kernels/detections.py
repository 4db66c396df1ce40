"""From a detector's two outputs, class scores and box codes of every anchor, to a list of detections.

Three recipes are in use, and all are here. TensorFlow's graphs suppress per class, in one of two orders
(`DetectionRules.clipping`), or once for all classes (`DetectionRules.agnostic`). TensorFlow Lite has one operator for
all of it, `tflite_detection_postprocess`.

Sources: object_detection/core/post_processing.py of tensorflow/models; detection_postprocess.cc of LiteRT.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np

from .boxes import CODER_SCALES, box_areas, clip_boxes, decode_boxes, decode_boxes_tflite
from .dense import sigmoid, softmax
from .nms import Candidates, Indices, greedy_suppression, non_max_suppression
from .types import Array

Clipping = Literal["first", "last", "never"]
CLIPPINGS: tuple[Clipping, ...] = ("first", "last", "never")
ScoreFunction = Literal["sigmoid", "softmax", "identity"]
SCORE_FUNCTIONS: tuple[ScoreFunction, ...] = ("sigmoid", "softmax", "identity")


# As many candidates give a hundred detections of most photos, or of all but the emptiest.
_ENOUGH = (1 << 11, 1 << 14)


class DetectionRules(NamedTuple):
    """How detections are chosen; the defaults are those of the published training configurations.

    Attributes
    ----------
    score_threshold : float
        Only scores above it count.
    iou_threshold : float
        A box is suppressed by a better one that it overlaps by more.
    agnostic : bool
        An anchor stands for its best class alone, and boxes of different classes suppress each other.
    max_per_class, max_total : int
        Detections of one class, and of all.
    clipping : {"first", "last", "never"}
        When boxes are cut to the input and those outside are dropped: before the suppression (the graphs of 2018, with
        ``NonMaxSuppressionV2``), after it, or not at all.
    soft_sigma : float
        Above 0, lower the scores of boxes that overlap instead (`non_max_suppression`).
    """

    score_threshold: float = 1e-8
    iou_threshold: float = 0.6
    agnostic: bool = False
    max_per_class: int = 100
    max_total: int = 100
    clipping: Clipping = "last"
    soft_sigma: float = 0.0


class RawDetections(NamedTuple):
    """Detections by descending score.

    Attributes
    ----------
    boxes : Array [shape=(n, 4)]
        (top, left, bottom, right) in parts of the input's sides.
    classes : integers [shape=(n,)]
        From 0, the background not counted.
    scores : Array [shape=(n,)]
    """

    boxes: Array
    classes: Indices
    scores: Array


class ScoredClasses(NamedTuple):
    """Pairs of an anchor and a class, and the score of each."""

    anchors: Indices
    classes: Indices
    scores: Array


def class_scores(logits: Array, function: ScoreFunction, background: bool) -> Array:
    """Scores of all classes [shape=(…, classes)], without the background that may be the first column of `logits`."""
    if function == "sigmoid":
        return sigmoid(logits[..., 1:] if background else logits)
    scores = softmax(logits) if function == "softmax" else logits
    return scores[..., 1:] if background else scores


def scores_above(logits: Array, function: ScoreFunction, background: bool, threshold: float) -> ScoredClasses:
    """The classes of anchors whose score is above a threshold, in order of anchors.

    Parameters
    ----------
    logits : Array [shape=(anchors, classes)], or one class more
    function, background
        As `class_scores`.
    threshold : float

    Notes
    -----
    Most logits are so low that they need no exponential: only what can pass is converted.
    """
    if function == "sigmoid":
        # Comparing and searching one long row is several times as fast as doing so by columns.
        found = np.flatnonzero(logits > logits.dtype.type(_least_logit(threshold)))
        anchors, columns = np.divmod(found, logits.shape[1])
        scores = sigmoid(logits.reshape(-1)[found])
    else:
        rows = _possible_anchors(logits, function, background, threshold)
        values = softmax(logits[rows]) if function == "softmax" else logits[rows]
        found, columns = np.nonzero(values > values.dtype.type(threshold))
        anchors, scores = rows[found], values[found, columns]
    passed = (scores > scores.dtype.type(threshold)) & (columns >= background)
    return ScoredClasses(anchors[passed], columns[passed] - int(background), scores[passed])


def _possible_anchors(logits: Array, function: ScoreFunction, background: bool, threshold: float) -> Indices:
    """Anchors of which a class may have a score above the threshold."""
    if function == "softmax" and background:
        # A share above t leaves less than 1 - t to the background.
        odds = logits[:, 1:].max(axis=1) - logits[:, 0]
        return np.flatnonzero(odds > _least_logit(threshold))
    return np.arange(len(logits))


def _least_logit(threshold: float) -> float:
    """Below this, rounding included, no logistic function is above the threshold."""
    share = threshold * (1 - 1e-6)
    return math.log(share / (1 - share)) if share > 0 else -math.inf


def find_detections(boxes: Array, found: ScoredClasses, rules: DetectionRules) -> RawDetections:
    """Choose detections of one image.

    Parameters
    ----------
    boxes : Array [shape=(len(found.anchors), 4)]
        The box of each pair, not clipped. Pairs whose box is not finite are left out.
    found : ScoredClasses
        What is above the threshold.
    rules : DetectionRules

    Returns
    -------
    RawDetections
        Equal in order, class and count to those of TensorFlow's graphs. Unless boxes are never clipped, one that lies
        outside the input is no detection.
    """
    shown = boxes if rules.clipping == "never" else clip_boxes(boxes)
    visible = (box_areas(shown) > 0) | (rules.clipping == "never")
    chosen = np.flatnonzero(np.isfinite(boxes).all(axis=1) & (visible | (rules.clipping != "first")))
    if rules.agnostic:
        chosen = chosen[_best_of_anchors(found, chosen)]
    suppressed = shown if rules.clipping == "first" else boxes
    groups = np.zeros(len(chosen), np.intp) if rules.agnostic else found.classes[chosen]
    candidates = Candidates(suppressed[chosen], found.scores[chosen], groups, visible[chosen])
    scores = found.scores[chosen]
    if rules.soft_sigma > 0:
        order, scores = _softly_per_group(candidates, rules)
    else:
        # Counted before boxes outside the input are dropped, as in TensorFlow.
        limit = rules.max_total if rules.agnostic else rules.max_per_class
        order = greedy_suppression(candidates, rules.iou_threshold, rules.max_total, limit)
        scores = scores[order]
    counted = candidates.counted[order]
    pairs = chosen[order[counted]][: rules.max_total]
    return RawDetections(shown[pairs], found.classes[pairs], scores[counted][: rules.max_total])


def _best_of_anchors(found: ScoredClasses, chosen: Indices) -> Indices:
    """Positions in `chosen` of the best class of each anchor; of equal ones the first."""
    anchors = found.anchors[chosen]
    order = np.lexsort((found.classes[chosen], -found.scores[chosen], anchors))
    return order[np.flatnonzero(np.diff(anchors[order], prepend=-1))]


def _softly_per_group(candidates: Candidates, rules: DetectionRules) -> tuple[Indices, Array]:
    """Positions and lowered scores of what soft suppression leaves of every group, best first."""
    orders, scores = [np.empty(0, np.intp)], [candidates.scores[:0]]
    for group in np.unique(candidates.groups):
        members = np.flatnonzero(candidates.groups == group)
        limit = rules.max_total if rules.agnostic else rules.max_per_class
        kept = non_max_suppression(
            candidates.boxes[members], candidates.scores[members], limit, soft_sigma=rules.soft_sigma,
            score_threshold=rules.score_threshold,
        )  # fmt: skip
        orders.append(members[kept.indices])
        scores.append(kept.scores)
    order, lowered = np.concatenate(orders), np.concatenate(scores)
    best = np.argsort(-lowered, kind="stable")
    return order[best], lowered[best]


def detections_of(
    logits: Array,
    codes: Array,
    anchors: Array,
    rules: DetectionRules,
    function: ScoreFunction = "sigmoid",
    background: bool = True,
    scales: tuple[float, ...] = CODER_SCALES,
) -> RawDetections:
    """Detections of one image from the outputs of its network; only boxes that may be shown are decoded.

    Parameters
    ----------
    logits : Array [shape=(anchors, classes)], or one class more
    codes : Array [shape=(anchors, 4)]
    anchors : Array [shape=(anchors, 4)]
    rules : DetectionRules
    function, background
        As `class_scores`.
    scales : four floats
        Of the codes.
    """

    def find(found: ScoredClasses) -> RawDetections:
        with np.errstate(over="ignore", invalid="ignore"):
            boxes = decode_boxes(codes[found.anchors], anchors[found.anchors], scales)
        return find_detections(boxes, found, rules)

    found = scores_above(logits, function, background, rules.score_threshold)
    for count in _ENOUGH:
        # The first detections follow from the best candidates alone. If they suffice, no more are looked at.
        if len(found.scores) > count and rules.soft_sigma == 0:
            above = found.scores > np.partition(found.scores, -count)[-count]
            first = find(ScoredClasses(found.anchors[above], found.classes[above], found.scores[above]))
            if len(first.scores) == rules.max_total:
                return first
    return find(found)


class TfliteRules(NamedTuple):
    """The options of ``TFLite_Detection_PostProcess``, by their names in files.

    Attributes
    ----------
    max_detections : int
    max_classes_per_detection : int
        Without `use_regular_nms`, report this many classes of each box.
    detections_per_class : int
        With `use_regular_nms`.
    use_regular_nms : bool
        Suppress per class, instead of once by the best class of every anchor.
    nms_score_threshold, nms_iou_threshold : float
        Scores must not be below the one; a box is suppressed if it overlaps by more than the other.
    scales : four floats
        ``y_scale``, ``x_scale``, ``h_scale``, ``w_scale``.
    """

    max_detections: int
    max_classes_per_detection: int = 1
    detections_per_class: int = 100
    use_regular_nms: bool = False
    nms_score_threshold: float = 0.0
    nms_iou_threshold: float = 0.5
    scales: tuple[float, ...] = CODER_SCALES


def tflite_detection_postprocess(
    codes: Array, scores: Array, anchors: Array, num_classes: int, rules: TfliteRules
) -> RawDetections:
    """TensorFlow Lite's operator ``TFLite_Detection_PostProcess`` for one image.

    Parameters
    ----------
    codes, anchors : Array [shape=(anchors, 4)]
    scores : Array [shape=(anchors, columns)]
        Of `num_classes` columns, or one more for the background.
    num_classes : int
    rules : TfliteRules

    Returns
    -------
    RawDetections
        What is in the first slots of the operator's outputs; boxes are not clipped. The operator has slots for
        `max_detections` times `max_classes_per_detection` and counts boxes, not slots. Of the slots beyond, those of
        the regular suppression are 0; those of the fast one hold whatever was in memory.

    Notes
    -----
    The fast suppression reports several classes of a box in descending score, as one slot after another. Which of two
    equal classes of one box comes first is left to the C++ library there (``std::partial_sort``); here it is the lower.
    """
    boxes = decode_boxes_tflite(codes, anchors, rules.scales)
    values = scores[:, scores.shape[1] - num_classes :]
    if rules.use_regular_nms:
        return _regular(boxes, values, rules)
    return _fast(boxes, values, rules)


def _regular(boxes: Array, scores: Array, rules: TfliteRules) -> RawDetections:
    anchors, classes = np.nonzero(scores >= scores.dtype.type(rules.nms_score_threshold))
    values = scores[anchors, classes]
    candidates = Candidates(boxes[anchors], values, classes, np.ones(len(anchors), bool))
    order = greedy_suppression(candidates, rules.nms_iou_threshold, rules.max_detections, rules.detections_per_class)
    return RawDetections(boxes[anchors[order]], classes[order], values[order])


def _fast(boxes: Array, scores: Array, rules: TfliteRules) -> RawDetections:
    compared = np.where(np.isnan(scores), scores.dtype.type(-np.inf), scores)
    best = compared.argmax(axis=1)
    top = compared[np.arange(len(scores)), best]
    anchors = np.flatnonzero(top >= scores.dtype.type(rules.nms_score_threshold))
    candidates = Candidates(boxes[anchors], top[anchors], np.zeros(len(anchors), np.intp), np.ones(len(anchors), bool))
    chosen = anchors[greedy_suppression(candidates, rules.nms_iou_threshold, rules.max_detections)]
    count = min(rules.max_classes_per_detection, scores.shape[1])
    classes = np.argsort(-compared[chosen], axis=1, kind="stable")[:, :count]
    values = np.take_along_axis(scores[chosen], classes, axis=1)
    return RawDetections(np.repeat(boxes[chosen], count, axis=0), classes.reshape(-1), values.reshape(-1))
