"""The settings of an SSD detector as data: head, anchors, box coder, scores, and non-maximum suppression.

`npmnv2.network.ssd` builds the network of them; what follows the network reads the rest. The defaults are those of
``ssdlite_mobilenet_v2_coco``. Terms and rules are those of TensorFlow's Object Detection API
(research/object_detection of tensorflow/models).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import chain
from typing import Any, Literal, NamedTuple, get_args

from npmnv2.errors import ArgumentError, ArgumentTypeError
from npmnv2.kernels import AnchorRules

ScoreConverter = Literal["sigmoid", "softmax", "identity"]
Suppression = Literal["per_class", "agnostic"]
Clipping = Literal["first", "last", "never"]
Rule = Literal["tensorflow", "tflite"]

SCORE_CONVERTERS: tuple[ScoreConverter, ...] = get_args(ScoreConverter)
SUPPRESSIONS: tuple[Suppression, ...] = get_args(Suppression)
CLIPPINGS: tuple[Clipping, ...] = get_args(Clipping)
RULES: tuple[Rule, ...] = get_args(Rule)

# Far beyond any detector, so that a number in a file cannot decide how much memory is taken.
MAX_MAPS, MAX_ANCHORS, MAX_FILTERS = 16, 1_000_000, 1 << 16

Quadruple = tuple[float, float, float, float]


def _known(kind: Any, values: Any) -> dict[str, Any]:
    names = [field.name for field in fields(kind)]
    if not isinstance(values, Mapping) or not set(values) <= set(names):
        raise ArgumentError(f"{kind.__name__} (={values!r:.80}) must be a dictionary of {', '.join(names)}")
    return dict(values)


def _settle(settings: Any, **values: Any) -> None:
    """Set fields of a frozen dataclass while it is made."""
    for name, value in values.items():
        object.__setattr__(settings, name, value)


def _numbers(name: str, values: Any) -> tuple[float, ...]:
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) > 1000:
        raise ArgumentTypeError(f"{name} (={values!r:.80}) must be a tuple of numbers")
    return tuple(values)


def _tuples(name: str, values: Any, length: int) -> tuple[Any, ...]:
    if not isinstance(values, Sequence) or not all(isinstance(row, Sequence) and len(row) == length for row in values):
        raise ArgumentTypeError(f"{name} (={values!r:.80}) must be a tuple of tuples of {length} numbers")
    return tuple(map(tuple, values))


def _check_number(name: str, value: Any, *, above: float | None = None, maximum: float = math.inf) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ArgumentTypeError(f"{name} (={value!r:.80}) must be a number, got {type(value).__name__}")
    if not math.isfinite(value) or value > maximum or (value < 0 if above is None else value <= above):
        least = "at least 0" if above is None else f"above {above:g}"
        raise ArgumentError(f"{name} (={value!r}) must be finite, {least} and at most {maximum:g}")


def _check_integer(name: str, value: Any, minimum: int, maximum: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ArgumentTypeError(f"{name} (={value!r:.80}) must be an integer, got {type(value).__name__}")
    if not minimum <= value <= maximum:
        raise ArgumentError(f"{name} (={value}) must be at least {minimum} and at most {maximum}")


def _check_choice(name: str, value: Any, allowed: Sequence[Any]) -> None:
    if value not in allowed:
        raise ArgumentError(f"{name} (={value!r:.80}) must be one of {', '.join(map(repr, allowed))}")


class Extra(NamedTuple):
    """Filters of the two convolutions that make one further feature map: 1×1, then 3×3 of stride 2."""

    squeeze: int
    filters: int


@dataclass(frozen=True)
class AnchorOptions:
    """Anchors by the Object Detection API's formula (``ssd_anchor_generator``).

    Attributes
    ----------
    min_scale, max_scale : float
        Scales of the first and the last map, as parts of the image; those between are spaced evenly.
    scales : tuple of float
        One for each map, in place of the range.
    aspect_ratios : tuple of float
        Width to height. The files' 0.3333 is no third.
    interpolated_scale_aspect_ratio : float
        Aspect ratio of a further anchor, whose scale lies between that of its map and of the next; 0 for none.
    reduce_boxes_in_lowest_layer : bool
        Give the first map three anchors: scale 0.1 at ratio 1, and its own scale at ratios 2 and 0.5.
    """

    min_scale: float = 0.2
    max_scale: float = 0.95
    scales: tuple[float, ...] = ()
    aspect_ratios: tuple[float, ...] = (1.0, 2.0, 0.5, 3.0, 0.3333)
    interpolated_scale_aspect_ratio: float = 1.0
    reduce_boxes_in_lowest_layer: bool = True

    def __post_init__(self) -> None:
        _settle(self, scales=_numbers("scales", self.scales), aspect_ratios=_numbers("ratios", self.aspect_ratios))
        numbers = (self.min_scale, self.max_scale, *self.scales, *self.aspect_ratios)
        for value in numbers:
            _check_number("anchors", value, above=0)
        _check_number("interpolated_scale_aspect_ratio", self.interpolated_scale_aspect_ratio)
        if len(self.aspect_ratios) + bool(self.interpolated_scale_aspect_ratio) == 0:
            raise ArgumentError("aspect_ratios must name at least one ratio")

    def per_place(self, maps: int) -> tuple[int, ...]:
        """Number of anchors in each place of each of `maps` maps."""
        count = len(self.aspect_ratios) + bool(self.interpolated_scale_aspect_ratio)
        if self.scales and len(self.scales) != maps:
            raise ArgumentError(f"scales must be as many as feature maps ({maps}), got {len(self.scales)}")
        return (3 if self.reduce_boxes_in_lowest_layer else count, *(count,) * (maps - 1))

    @property
    def rules(self) -> AnchorRules:
        """The options as `npmnv2.kernels.ssd_anchors` takes them."""
        return AnchorRules(
            self.min_scale,
            self.max_scale,
            self.scales,
            self.aspect_ratios,
            self.interpolated_scale_aspect_ratio,
            self.reduce_boxes_in_lowest_layer,
        )


@dataclass(frozen=True)
class ExplicitAnchors:
    """Anchors that a file lists, where the formula does not give them. They fit one image size only.

    Attributes
    ----------
    boxes : tuple of (y, x, height, width)
        Centers and sizes as parts of the image, in the order of the predictions.
    counts : tuple of int
        Number of anchors in each place of each map.
    """

    boxes: tuple[Quadruple, ...]
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        boxes = _tuples("anchors", self.boxes, 4)
        if len(boxes) > MAX_ANCHORS:
            raise ArgumentError(f"anchors must be at most {MAX_ANCHORS} boxes, got {len(boxes)}")
        for number in chain.from_iterable(boxes):
            _check_number("anchors", number, above=-math.inf)
        _settle(self, boxes=boxes, counts=_numbers("anchors per place", self.counts))
        for count in self.counts:
            _check_integer("anchors per place", count, 1, 1000)

    def per_place(self, maps: int) -> tuple[int, ...]:
        """Number of anchors in each place of each of `maps` maps.

        Raises
        ------
        ArgumentError
            If they were listed for a different number of maps.
        """
        if len(self.counts) != maps:
            raise ArgumentError(f"anchors must be listed for {maps} feature maps, got {len(self.counts)}")
        return self.counts


@dataclass(frozen=True)
class NonMaxSuppression:
    """Which of the decoded boxes are kept.

    Attributes
    ----------
    score_threshold : float
        Only scores above it count.
    iou_threshold : float
        A box that overlaps a better one by more (intersection over union) is dropped.
    suppression : {"per_class", "agnostic"}
        Among boxes of one class, or among all by their best class.
    max_per_class, max_detections : int
        How many boxes a class, and the whole image, may keep.
    clipping : {"first", "last", "never"}
        When boxes are cut to the image and empty ones are dropped: before suppression (exports of 2018, with
        ``NonMaxSuppressionV2``), after it (later ones), or not at all (TensorFlow Lite).
    rule : {"tensorflow", "tflite"}
        Whose order of equal scores to follow: ``NonMaxSuppressionV2``…``V5``, or ``TFLite_Detection_PostProcess``.
    classes_per_detection : int
        Best classes that are told for each box; only TensorFlow Lite's agnostic suppression knows more than one.
    """

    score_threshold: float = 1e-8
    iou_threshold: float = 0.6
    suppression: Suppression = "per_class"
    max_per_class: int = 100
    max_detections: int = 100
    clipping: Clipping = "last"
    rule: Rule = "tensorflow"
    classes_per_detection: int = 1

    def __post_init__(self) -> None:
        for name in ("score_threshold", "iou_threshold"):
            _check_number(name, getattr(self, name), above=-math.inf, maximum=1)
        for name in ("max_per_class", "max_detections", "classes_per_detection"):
            _check_integer(name, getattr(self, name), 1, MAX_ANCHORS)
        for name, allowed in (("suppression", SUPPRESSIONS), ("clipping", CLIPPINGS), ("rule", RULES)):
            _check_choice(name, getattr(self, name), allowed)


@dataclass(frozen=True)
class SSDConfig:
    """Everything about an SSD detector but its backbone, its classes and its image size, which `MobileNetV2Config` has.

    Attributes
    ----------
    extras : tuple of Extra
        Filters of the maps beyond ``block_13_expand`` and ``Conv_1``.
    extra_depthwise : bool
        Split the extras' 3×3 convolutions into depthwise and pointwise.
    predictor_kernel : int
        Size of the predictors' windows: 3, or 1.
    predictor_depthwise : bool
        SSDLite: split the predictors into depthwise and pointwise.
    background : bool
        Whether class 0 is the background, which is no detection.
    anchors : AnchorOptions or ExplicitAnchors
    box_scales : tuple of four float
        Factors of the box coder for y, x, height and width.
    score_converter : {"sigmoid", "softmax", "identity"}
        From logits to scores.
    nms : NonMaxSuppression
    """

    extras: tuple[Extra, ...] = (Extra(256, 512), Extra(128, 256), Extra(128, 256), Extra(64, 128))
    extra_depthwise: bool = True
    predictor_kernel: int = 3
    predictor_depthwise: bool = True
    background: bool = True
    anchors: AnchorOptions | ExplicitAnchors = AnchorOptions()
    box_scales: Quadruple = (10.0, 10.0, 5.0, 5.0)
    score_converter: ScoreConverter = "sigmoid"
    nms: NonMaxSuppression = NonMaxSuppression()

    def __post_init__(self) -> None:
        extras = tuple(Extra(*extra) for extra in _tuples("extras", self.extras, 2))
        _settle(self, extras=extras, box_scales=_numbers("box_scales", self.box_scales))
        _check_integer("number of feature maps", self.n_maps, 2, MAX_MAPS)
        for filters in chain.from_iterable(extras):
            _check_integer("filters of extras", filters, 1, MAX_FILTERS)
        if len(self.box_scales) != 4:
            raise ArgumentError(f"box_scales (={self.box_scales}) must be four numbers, for y, x, height and width")
        for scale in self.box_scales:
            _check_number("box_scales", scale, above=0)
        _check_choice("predictor_kernel", self.predictor_kernel, (1, 3))
        _check_choice("score_converter", self.score_converter, SCORE_CONVERTERS)
        self.anchors_per_place  # noqa: B018  # raises where anchors are listed for other maps

    @property
    def n_maps(self) -> int:
        """Number of feature maps that are looked at."""
        return 2 + len(self.extras)

    @property
    def anchors_per_place(self) -> tuple[int, ...]:
        """Number of anchors in each place of each map."""
        return self.anchors.per_place(self.n_maps)

    def replace(self, **changes: Any) -> SSDConfig:
        """Return a copy with some fields changed."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON holds them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SSDConfig:
        """The settings that JSON holds; what is left out has its default.

        Raises
        ------
        ArgumentError, ArgumentTypeError
            If a value is impossible, or there is no such setting.
        """
        given = _known(cls, values)
        if "anchors" in given:
            listed = isinstance(given["anchors"], Mapping) and "boxes" in given["anchors"]
            kind = ExplicitAnchors if listed else AnchorOptions
            given["anchors"] = kind(**_known(kind, given["anchors"]))
        if "nms" in given:
            given["nms"] = NonMaxSuppression(**_known(NonMaxSuppression, given["nms"]))
        return cls(**given)


SSDLITE = SSDConfig()
"""The settings of the published ``ssdlite_mobilenet_v2_coco``."""
