"""The configuration: everything that fixes the shape of a MobileNetV2, checked, and the rules of its widths."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from npmnv2.errors import ArgumentError, ArgumentTypeError, WeightsError
from npmnv2.files import write_atomically
from npmnv2.network.activations import Function, activation
from npmnv2.network.detection import SSDLITE, SSDConfig
from npmnv2.network.layers import BATCH_NORM_EPSILON

MINIMUM_IMAGE_SIZE = 32
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280


def make_divisible(value: float, divisor: int = 8, minimum: int | None = None) -> int:
    """Round `value` to a multiple of `divisor`, not below `minimum` and never down by more than 10 %."""
    rounded = max(divisor if minimum is None else minimum, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


class WidthRule(NamedTuple):
    """How an implementation rounds widths: what it does to c·multiplier and to c·expand_ratio first.

    For the six published multipliers all rules give the same widths. In between they differ (1.1, for example).

    Attributes
    ----------
    ends, block : callable
        Applied to c·multiplier of the first and last convolution and of the blocks, before it is made divisible.
    expand : callable
        Width of an expansion, from c·expand_ratio and the configuration.
    first_residual : bool
        Whether the first block adds its input where the widths agree, as they do at multipliers below 0.27.
    """

    ends: Callable[[float], float]
    block: Callable[[float], float]
    expand: Callable[[float, MobileNetV2Config], int]
    first_residual: bool


# TF-slim: nets/mobilenet/mobilenet.py; Keras: applications/mobilenet_v2.py, which truncates the widths of blocks only;
# transformers: models/mobilenet_v2/modeling_mobilenet_v2.py. torchvision's widths are TF-slim's.
WIDTH_RULES = {
    "transformers": WidthRule(
        round, round, lambda v, c: make_divisible(round(v), c.depth_divisible_by, c.min_depth), first_residual=False
    ),
    "slim": WidthRule(float, float, lambda v, c: make_divisible(v, 8), first_residual=True),
    "keras": WidthRule(float, int, lambda v, c: int(v), first_residual=True),
}


@dataclass(frozen=True, repr=False)
class MobileNetV2Config:
    """Everything that fixes the shape of a MobileNetV2, with the names and defaults of transformers.

    Attributes
    ----------
    num_channels : int
        Channels of the input image.
    image_size : int
        Size at which the model was trained; images of other sizes work too.
    depth_multiplier : float
        Factor on the number of channels ("alpha", "width multiplier").
    depth_divisible_by, min_depth : int
        Channels are a multiple of the one and not below the other.
    expand_ratio : float
        Factor by which blocks widen their input.
    output_stride : int
        32, or 16, 8, 4, 2: from there on, strides become dilations, so that feature maps stay large.
    first_layer_is_expansion : bool
        The first convolution is the expansion of the first block (true of all published weights).
    finegrained_output : bool
        Keep 1280 channels at the end when depth_multiplier is below 1.
    hidden_act : str or callable
        "relu6", any other name that transformers knows, or a function of one array, applied element by element.
    tf_padding : bool
        Pad as TensorFlow does; False pads as PyTorch ports do.
    classifier_dropout_prob, initializer_range : float
        Carried for transformers; the second is the standard deviation of random weights.
    layer_norm_eps : float
        Epsilon of the backbone's batch norms.
    semantic_loss_ignore_index : int
        Label that the segmentation loss leaves out.
    num_labels : int
        Classes. Follows from id2label or label2id where those are given.
    id2label : dict of int to str, optional
    label2id : dict of str to int, optional
    problem_type : {None, "regression", "single_label_classification", "multi_label_classification"}
        Which loss to use; None decides by the labels.
    pooling_window : int, optional
        Average over windows of this size instead of the whole map (7 in the original graphs).
    pooling_stride : int
    width_rule : {"transformers", "slim", "keras"}
        Whose rounding of widths to follow where they differ.
    atrous_rates : tuple of int
        Dilations of the segmentation head's atrous branches; none in the published MobileNetV2 checkpoints.
    decoder : bool
        Give the segmentation head DeepLabV3+'s decoder, which the published ADE20K checkpoint has.
    ssd : SSDConfig
        Head, anchors and post-processing of a detector, by default those of the published SSDLite.

    Raises
    ------
    ValueError, TypeError
        If a value is impossible; the message names the field.
    """

    num_channels: int = 3
    image_size: int = 224
    depth_multiplier: float = 1.0
    depth_divisible_by: int = 8
    min_depth: int = 8
    expand_ratio: float = 6
    output_stride: int = 32
    first_layer_is_expansion: bool = True
    finegrained_output: bool = True
    hidden_act: str | Function = "relu6"
    tf_padding: bool = True
    classifier_dropout_prob: float = 0.8
    initializer_range: float = 0.02
    layer_norm_eps: float = BATCH_NORM_EPSILON
    semantic_loss_ignore_index: int = 255
    num_labels: int | None = None
    id2label: Mapping[int, str] | None = field(default=None, repr=False)
    label2id: Mapping[str, int] | None = field(default=None, repr=False)
    problem_type: str | None = None
    pooling_window: int | None = None
    pooling_stride: int = 1
    width_rule: str = "transformers"
    atrous_rates: tuple[int, ...] = ()
    decoder: bool = False
    ssd: SSDConfig = SSDLITE
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            check(name, getattr(self, name))
        object.__setattr__(self, "atrous_rates", tuple(self.atrous_rates))
        activation(self.hidden_act)
        self._settle_labels()

    def __repr__(self) -> str:
        # Not the labels: ImageNet's alone would fill a screen.
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.repr and getattr(self, f.name) != f.default}
        return f"MobileNetV2Config({', '.join(f'{name}={value!r}' for name, value in values.items())})"

    def _settle_labels(self) -> None:
        """Make num_labels, id2label and label2id agree, whichever of them was given (2 labels where none was)."""
        names = {int(k): str(v) for k, v in self.id2label.items()} if self.id2label is not None else None
        if names is None and self.label2id is not None and self.num_labels in (None, len(self.label2id)):
            names = {int(index): str(label) for label, index in self.label2id.items()}
        count = self.num_labels if self.num_labels is not None else len(names) if names is not None else 2
        if names is None:
            names = {i: f"LABEL_{i}" for i in range(count)}
        if sorted(names) != list(range(count)):
            raise ArgumentError(
                f"id2label must name each of num_labels (={count}) classes 0…{count - 1} once, got {len(names)} names"
            )
        by_label: dict[str, int] = {}
        for index in range(count):
            # Names need not be unique (ImageNet has two cranes): the first one keeps it.
            by_label.setdefault(names[index], index)
        object.__setattr__(self, "num_labels", count)
        object.__setattr__(self, "id2label", {i: names[i] for i in range(count)})
        object.__setattr__(self, "label2id", dict(self.label2id) if self.label2id is not None else by_label)

    @property
    def classes(self) -> int:
        """Number of labels, as a plain int."""
        assert self.num_labels is not None
        return self.num_labels

    @property
    def rule(self) -> WidthRule:
        """The rule that `width_rule` names."""
        return WIDTH_RULES[self.width_rule]

    def width(self, channels: int) -> int:
        """Channels of a block at this multiplier for `channels` at multiplier 1."""
        return self._divisible(self.rule.block(channels * self.depth_multiplier))

    def expanded(self, channels: int) -> int:
        """Channels of the expansion of a block that takes `channels`."""
        return self.rule.expand(channels * self.expand_ratio, self)

    @property
    def stem_width(self) -> int:
        """Channels of the first convolution."""
        return self._divisible(self.rule.ends(STEM_CHANNELS * self.depth_multiplier))

    @property
    def head_width(self) -> int:
        """Channels of the last convolution."""
        if self.finegrained_output and self.depth_multiplier < 1:
            return HEAD_CHANNELS
        return self._divisible(self.rule.ends(HEAD_CHANNELS * self.depth_multiplier))

    def _divisible(self, channels: float) -> int:
        return make_divisible(channels, self.depth_divisible_by, self.min_depth)

    # --- reading and writing -----------------------------------------------------------------------------------------

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, strict: bool = True) -> MobileNetV2Config:
        """Build a configuration from the contents of a transformers ``config.json``.

        Keys of transformers' machinery (``architectures``, ``torch_dtype``, …) are kept in `extra`. A key that neither
        knows is an error, unless `strict` is False: then it is kept as well.
        """
        known = {f.name for f in fields(cls)} - {"extra"}
        given = {key: value for key, value in values.items() if key in known and value is not None}
        rest = {key: value for key, value in values.items() if key not in known}
        model_type = rest.pop("model_type", "mobilenet_v2")
        if model_type != "mobilenet_v2":
            raise WeightsError(f"model_type (={model_type!r}) must be 'mobilenet_v2'")
        unknown = sorted(set(rest) - _TRANSFORMERS_KEYS)
        if strict and unknown:
            raise ArgumentError(
                f"config must not have unknown keys, got {', '.join(unknown)}; known are {', '.join(sorted(known))}"
            )
        labels = given.get("num_labels")
        if isinstance(labels, int) and labels > _MOST_LABELS:
            # Each label gets a name, so that a number in a foreign file would decide how much memory is taken.
            raise ArgumentError(f"num_labels (={labels}) must be at most {_MOST_LABELS} in a file")
        size = given.get("image_size")
        if isinstance(size, (list, tuple)) and size and all(isinstance(side, int) for side in size):
            given["image_size"] = max(size)
        if given.get("id2label") is not None:
            given["id2label"] = _numbered(given["id2label"])
            given.pop("num_labels", None)
        if "ssd" in given:
            given["ssd"] = SSDConfig.from_dict(given["ssd"])
        return cls(**given, extra=rest)

    def to_dict(self) -> dict[str, Any]:
        """Contents of a ``config.json`` for transformers; fields that it does not know appear only if set."""
        if callable(self.hidden_act):
            raise ArgumentError("hidden_act (a function) must be a name to be written to a file")
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("extra", "num_labels")}
        defaults = {
            "pooling_window": None,
            "pooling_stride": 1,
            "width_rule": "transformers",
            "problem_type": None,
            "atrous_rates": (),
            "decoder": False,
        }
        for name, default in defaults.items():
            if values[name] == default:
                del values[name]
        if values["ssd"] == SSDLITE:
            del values["ssd"]
        else:
            values["ssd"] = values["ssd"].to_dict()
        values["id2label"] = {str(key): label for key, label in values["id2label"].items()}
        return {"model_type": "mobilenet_v2", **self.extra, **values}

    def to_json_string(self) -> str:
        """`to_dict` as JSON."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_pretrained(cls, directory: str | Path) -> MobileNetV2Config:
        """Read ``config.json`` of a directory (or the file itself)."""
        path = Path(directory)
        path = path / "config.json" if path.is_dir() else path
        if path.is_file() and path.stat().st_size > _MOST_BYTES:
            raise WeightsError(f"{path} must have at most {_MOST_BYTES >> 20} MB")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise WeightsError(f"{path} is not a JSON file: {error}") from None
        if not isinstance(values, dict):
            raise WeightsError(f"{path} must hold a JSON object, got {type(values).__name__}")
        try:
            return cls.from_dict(values)
        except WeightsError as error:
            raise WeightsError(f"{path}: {error}") from None

    def save_pretrained(self, directory: str | Path) -> None:
        """Write ``config.json`` into a directory, which is created if missing."""
        Path(directory).mkdir(parents=True, exist_ok=True)
        with write_atomically(Path(directory) / "config.json") as part:
            part.write_text(self.to_json_string(), encoding="utf-8")

    def replace(self, **changes: Any) -> MobileNetV2Config:
        """Return a copy with some fields changed; labels are dropped when their number changes."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        if "num_labels" in changes and changes["num_labels"] != self.num_labels:
            values.update(id2label=None, label2id=None)
        elif "id2label" in changes:
            values.update(num_labels=None, label2id=None)
        return MobileNetV2Config(**{**values, **changes})


_MOST_LABELS = 1_000_000
_MOST_BYTES = 16 << 20


def _numbered(labels: Any) -> dict[int, Any]:
    """The labels of a file by number: JSON's keys are text."""
    try:
        return {int(key): value for key, value in labels.items()}
    except (AttributeError, ValueError):
        raise ArgumentError(f"id2label (={labels!r:.80}) must be a dictionary from numbers to names") from None


# Written by transformers itself into every config.json; of no meaning here.
_TRANSFORMERS_KEYS = {
    "_name_or_path", "architectures", "torch_dtype", "dtype", "transformers_version", "return_dict",
    "tie_word_embeddings",
    "output_hidden_states", "output_attentions", "chunk_size_feed_forward", "is_encoder_decoder", "torchscript",
    "use_bfloat16", "use_cache", "pruned_heads", "_attn_implementation_autoset", "_commit_hash", "attn_implementation",
}  # fmt: skip


# Far beyond any network; products of such numbers are still exact.
_LARGEST = float(1 << 31)


def _number(
    kind: type, minimum: float, *, above: bool = False, maximum: float = _LARGEST
) -> Callable[[str, Any], None]:
    word = "an integer" if kind is int else "a number"

    def check(name: str, value: Any) -> None:
        allowed = (int,) if kind is int else (int, float)
        if isinstance(value, bool) or not isinstance(value, allowed):
            raise ArgumentTypeError(f"{name} (={value!r}) must be {word}, got {type(value).__name__}")
        if not (value > minimum if above else value >= minimum) or value > maximum:
            least = f"{'above' if above else 'at least'} {minimum}"
            raise ArgumentError(f"{name} (={value!r:.40}) must be {least} and at most {maximum:g}")

    return check


def _boolean(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ArgumentTypeError(f"{name} (={value!r}) must be True or False, got {type(value).__name__}")


def _one_of(*allowed: Any) -> Callable[[str, Any], None]:
    def check(name: str, value: Any) -> None:
        if value not in allowed:
            raise ArgumentError(f"{name} (={value!r}) must be one of {', '.join(map(repr, allowed))}")

    return check


def _label_numbers(name: str, value: Any) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(number, int) for number in value.values()):
        raise ArgumentTypeError(f"{name} (={value!r:.80}) must be a dictionary from names to numbers")


def _optional(check: Callable[[str, Any], None]) -> Callable[[str, Any], None]:
    return lambda name, value: None if value is None else check(name, value)


def _output_stride(name: str, value: Any) -> None:
    _number(int, 2)(name, value)
    if value not in (2, 4, 8, 16, 32):
        raise ArgumentError(f"{name} (={value}) must be one of 2, 4, 8, 16, 32")


def _ssd(name: str, value: Any) -> None:
    if not isinstance(value, SSDConfig):
        raise ArgumentTypeError(f"{name} must be an SSDConfig, got {type(value).__name__}")


def _rates(name: str, value: Any) -> None:
    if not isinstance(value, (list, tuple)) or len(value) > 3:
        raise ArgumentTypeError(f"{name} (={value!r}) must be a tuple of at most three integers")
    for rate in value:
        _number(int, 1)(name, rate)


def _probability(name: str, value: Any) -> None:
    _number(float, 0)(name, value)
    if value > 1:
        raise ArgumentError(f"{name} (={value}) must be between 0 and 1")


_CHECKS: dict[str, Callable[[str, Any], None]] = {
    "num_channels": _number(int, 1),
    "image_size": _number(int, MINIMUM_IMAGE_SIZE),
    "depth_multiplier": _number(float, 0, above=True, maximum=1000),
    "depth_divisible_by": _number(int, 1),
    "min_depth": _number(int, 1),
    "expand_ratio": _number(float, 0, above=True, maximum=1000),
    "output_stride": _output_stride,
    "first_layer_is_expansion": _boolean,
    "finegrained_output": _boolean,
    "tf_padding": _boolean,
    "classifier_dropout_prob": _probability,
    "initializer_range": _number(float, 0),
    "layer_norm_eps": _number(float, 0, above=True),
    "semantic_loss_ignore_index": _number(int, -(2**31)),
    "num_labels": _optional(_number(int, 0)),
    "label2id": _optional(_label_numbers),
    "problem_type": _one_of(None, "regression", "single_label_classification", "multi_label_classification"),
    "pooling_window": _optional(_number(int, 1)),
    "pooling_stride": _number(int, 1),
    "width_rule": _one_of(*WIDTH_RULES),
    "atrous_rates": _rates,
    "decoder": _boolean,
    "ssd": _ssd,
}
