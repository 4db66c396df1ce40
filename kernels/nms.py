"""Non-maximum suppression: of boxes that show the same thing keep the one with the highest score.

All functions are exact: they select the same boxes, in the same order, as the operators that they are named after, also
among equal scores, of which the first box wins. Boxes are finite; a score that is not a number loses.

Sources: non_max_suppression_op.cc of TensorFlow; object_detection/core/post_processing.py of tensorflow/models.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .boxes import overlaps
from .types import Array

Indices = NDArray[np.intp]

# Candidates are compared with what is selected in pieces of this many, best first: most are never looked at.
_BLOCK = 128


class Selected(NamedTuple):
    """Numbers of the selected boxes, best first, and their scores."""

    indices: Indices
    scores: Array


class Candidates(NamedTuple):
    """Boxes that may be selected.

    Attributes
    ----------
    boxes : Array [shape=(n, 4)]
        Corners, finite.
    scores : Array [shape=(n,)]
        Not NaN.
    groups : integers [shape=(n,)]
        Only boxes of one group suppress each other. Of equal scores the lower group comes first, then the lower
        position.
    counted : bool [shape=(n,)]
        Which of them count toward the number that is wanted.
    """

    boxes: Array
    scores: Array
    groups: Indices
    counted: NDArray[np.bool_]


def non_max_suppression(
    boxes: Array,
    scores: Array,
    max_outputs: int,
    iou_threshold: float = 0.5,
    score_threshold: float = -math.inf,
    soft_sigma: float = 0.0,
) -> Selected:
    """TensorFlow's ``NonMaxSuppressionV5``, and its older versions, which have fewer arguments.

    Parameters
    ----------
    boxes : Array [shape=(n, 4)]
        Corners, in any order.
    scores : Array [shape=(n,)]
    max_outputs : int
        Select at most this many.
    iou_threshold : float
        A box is suppressed if it overlaps a selected one by more.
    score_threshold : float
        Only boxes with a score above it are candidates.
    soft_sigma : float
        Above 0, overlap lowers scores by the factor ``exp(-iou² / (2 · soft_sigma))`` and suppresses nothing else
        (Bodla et al., *Soft-NMS*, arXiv 1704.04503).

    Returns
    -------
    Selected
        ``NonMaxSuppressionV4`` and V5 can pad theirs with zeros: `padded`.
    """
    # The lowest number is what TensorFlow takes for "none": minus infinity is not above it.
    lowest = max(float(np.finfo(scores.dtype).min), score_threshold)
    chosen = np.flatnonzero(scores > scores.dtype.type(lowest))
    if soft_sigma > 0:
        return _soft_suppression(boxes, scores, chosen, max_outputs, lowest, soft_sigma)
    one_group = np.zeros(len(chosen), np.intp)
    candidates = Candidates(boxes[chosen], scores[chosen], one_group, np.ones(len(chosen), bool))
    indices = chosen[greedy_suppression(candidates, iou_threshold, max_outputs)]
    return Selected(indices, scores[indices])


def padded(selected: Selected, size: int) -> Selected:
    """Zeros after the selected boxes, up to `size` of them."""
    missing = (0, size - len(selected.indices))
    return Selected(np.pad(selected.indices, missing), np.pad(selected.scores, missing))


def greedy_suppression(
    candidates: Candidates, iou_threshold: float, max_outputs: int, max_per_group: int | None = None
) -> Indices:
    """Select candidates by descending score, leaving out what overlaps a selected one of its group by more.

    This gives what a suppression of each group on its own, to `max_per_group` boxes, and a sorting of all would give,
    but it ends as soon as there are enough.

    Returns
    -------
    integers [shape=(selected,)]
        Positions in `candidates`, best first: as many as it takes for `max_outputs` that count.
    """
    limit = max_outputs if max_per_group is None else max_per_group
    threshold = candidates.boxes.dtype.type(iou_threshold)
    selected: list[int] = []
    room: dict[int, int] = {}
    wanted = max_outputs
    for block in _descending(candidates):
        if wanted <= 0:
            break
        if selected:
            block = block[~_suppressed(candidates, block, np.array(selected, np.intp), threshold).any(axis=1)]
        alive = np.ones(len(block), bool)
        compatible = ~_suppressed(candidates, block, block, threshold)
        for at, (candidate, group) in enumerate(zip(block.tolist(), candidates.groups[block].tolist())):
            if not alive[at] or room.setdefault(group, limit) <= 0:
                continue
            selected.append(candidate)
            room[group] -= 1
            wanted -= int(candidates.counted[candidate])
            if wanted <= 0:
                break
            alive &= compatible[at]
    return np.array(selected, np.intp)


def _suppressed(candidates: Candidates, first: Indices, second: Indices, threshold: Any) -> NDArray[np.bool_]:
    """Which candidates of `first` cannot be selected beside which of `second`."""
    boxes, groups = candidates.boxes, candidates.groups
    suppressed: NDArray[np.bool_] = overlaps(boxes[first], boxes[second]) > threshold
    suppressed &= groups[first][:, None] == groups[second]
    return suppressed


def _descending(candidates: Candidates) -> Iterator[Indices]:
    """Positions by descending score, equal scores by group and position, in blocks; sorts no more than is asked for."""
    rest, share = np.arange(len(candidates.scores)), 8 * _BLOCK
    while len(rest):
        scores = candidates.scores[rest]
        # All that equal the last of the best belong to them.
        least = np.partition(scores, -share)[-share] if len(rest) > share else scores.min()
        best, rest = rest[scores >= least], rest[scores < least]
        best = best[np.lexsort((best, candidates.groups[best], -candidates.scores[best]))]
        for start in range(0, len(best), _BLOCK):
            yield best[start : start + _BLOCK]
        share *= 2


def _soft_suppression(
    boxes: Array, scores: Array, chosen: Indices, max_outputs: int, score_threshold: float, sigma: float
) -> Selected:
    """Candidates in a queue: the best one is selected, unless boxes selected since it was queued lower its score."""
    number = scores.dtype.type
    scale, least = number(-0.5) / number(sigma), number(score_threshold)
    # (minus the score, box, how many selected boxes it was compared with)
    queue = [(-scores[index], int(index), 0) for index in chosen]
    heapq.heapify(queue)
    indices: list[int] = []
    kept: list[np.generic] = []
    while queue and len(indices) < max_outputs:
        negative, index, compared = heapq.heappop(queue)
        score = -negative
        for overlap in overlaps(boxes[index : index + 1], boxes[indices[compared:]])[0][::-1]:
            # NumPy's exp of a float32 may be a bit off, as Python's of a float64 rounded is not.
            score *= number(math.exp(scale * overlap * overlap))
            if score <= least:
                break
        if score == -negative:
            indices.append(index)
            kept.append(score)
        elif score > least:
            heapq.heappush(queue, (-score, index, len(indices)))
    return Selected(np.array(indices, np.intp), np.array(kept, scores.dtype))
