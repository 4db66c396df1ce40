"""The class activation map of a classifier, for `MobileNetV2ForImageClassification.explain`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from npmnv2.errors import ArgumentError
from npmnv2.images.loading import ImageSource
from npmnv2.images.processor import MobileNetV2ImageProcessor
from npmnv2.images.steps import Placement
from npmnv2.kernels import Array, LinearWeights, average_pool, global_average_pool, softmax
from npmnv2.models.photo import Photo
from npmnv2.network.architecture import CLASSIFIER, LAST_CONV
from npmnv2.network.config import MobileNetV2Config
from npmnv2.results.class_map import Grid
from npmnv2.results.heat_map import HeatMap

if TYPE_CHECKING:
    from npmnv2.models.classification import MobileNetV2ForImageClassification


def explain(
    model: MobileNetV2ForImageClassification,
    image: ImageSource,
    label: str | int | None,
    processor: MobileNetV2ImageProcessor,
) -> HeatMap:
    """The contributions of every place to the logit of a class; of the likeliest one if `label` is None."""
    photo = Photo.load(image, processor)
    assert photo.placement is not None
    values = model.run(model.prepare([photo.pixels], processor), (LAST_CONV, CLASSIFIER))
    logits = values[CLASSIFIER][0]
    logits = global_average_pool(logits[None])[0] if logits.ndim == 3 else logits
    index = int(logits.argmax()) if label is None else class_index(model.labels, label)
    weights = model.folded_weights()
    last = values[LAST_CONV][0].astype(np.float64)
    contributions = last @ weights[f"{CLASSIFIER}/kernel"][:, index].astype(np.float64) * _shares(model.config, last)
    return HeatMap(
        contributions,
        index,
        model.labels[index],
        float(softmax(logits)[index]),
        float(logits[index]),
        float(weights[f"{CLASSIFIER}/bias"][index]),
        photo.rgb(),
        _grid(photo.placement, (last.shape[0], last.shape[1])),
        _seen(photo.placement),
        photo.source,
    )


def class_index(labels: tuple[str, ...], label: str | int) -> int:
    """The number of a class, given by its name or number.

    Raises
    ------
    ArgumentError
        If there is no such class, or several of that name.
    """
    if isinstance(label, str) and labels.count(label) == 1:
        return labels.index(label)
    if isinstance(label, (int, np.integer)) and not isinstance(label, bool) and 0 <= label < len(labels):
        return int(label)
    import difflib

    found = [number for number, name in enumerate(labels) if name == label]
    near = found or difflib.get_close_matches(str(label), labels, 3) or labels[:3]
    raise ArgumentError(
        f"label (={label!r}) must be the number of one of the {len(labels)} classes, or a name that only one has, "
        f"such as {', '.join(map(str, near))}"
    )


def _shares(config: MobileNetV2Config, last: Array) -> Any:
    """What each place counts in the pooled mean, relative to the others: 1 but for pools with a window."""
    window, stride = config.pooling_window, config.pooling_stride
    if window is None:
        return 1.0
    positions = average_pool(last[None], window, stride).shape[1:3]
    counts = np.zeros(last.shape[:2])
    for row, column in np.ndindex(*positions):
        counts[row * stride : row * stride + window, column * stride : column * stride + window] += 1
    return counts / counts.mean()


def _grid(placement: Placement, places: tuple[int, int]) -> Grid:
    """Where the photo's pixels lie among the places of the map, each of which stands for its share of the input."""
    axes = zip(placement.photo, placement.scale, placement.offset, placement.size, places)
    return Grid(*(_weights(*axis) for axis in axes))


def _weights(photo: int, scale: float, offset: float, size: int, places: int) -> LinearWeights:
    points = ((np.arange(photo) + 0.5) * scale + offset) * places / size - 0.5
    inside = np.clip(points, 0, places - 1).astype(np.float32)
    lower = np.floor(inside).astype(np.intp)
    return LinearWeights(lower, np.minimum(lower + 1, places - 1), inside - lower)


def _seen(placement: Placement) -> tuple[slice, slice]:
    """Rows and columns of the photo that are on the network's input."""
    axes = zip(placement.photo, placement.scale, placement.offset, placement.size)
    rows, columns = (
        slice(max(0, round(-offset / scale)), min(photo, round((size - offset) / scale)))
        for photo, scale, offset, size in axes
    )
    return rows, columns
