"""From photos to `pixel_values`: `MobileNetV2ImageProcessor` with the arguments and results of transformers.

Every published MobileNetV2 was measured with one way of preparing photos. A network whose photos are prepared in a
different way loses accuracy without any error. `PRESETS` names these ways:

========== ======================================================================================== ==============
preset     what it does                                                                             input range
========== ======================================================================================== ==============
`hf`       shortest edge to size + 32 (Pillow, smoothed), center crop; transformers' default        −1 … 1
`slim`     central 87.5 % of both sides, TensorFlow 1 resize; what TF-slim's accuracies stand for   −1 … 1
`keras`    resize to the size (Pillow); ``do_resize=False`` for ``preprocess_input`` alone          −1 … 1
`raw`      nothing: the caller has done it all                                                      as given
`deeplab`  longest side to the size (Lanczos), mid-gray padding below and on the right               −1 … 1
`ssd`      TensorFlow 1 resize to the size, aspect ratio not kept; the Object Detection API's        −1 … 1
========== ======================================================================================== ==============
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import operator
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypedDict, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from npmnv2.errors import ArgumentError, ArgumentTypeError, ImageError, MissingPackageError
from npmnv2.files import write_atomically
from npmnv2.images.loading import ImageSource, Pixels, describe, is_array, is_column, load_image, to_numpy
from npmnv2.images.steps import (
    BILINEAR,
    LANCZOS,
    NEAREST,
    CenterCrop,
    CentralFraction,
    PadAfter,
    Pair,
    PillowResize,
    Placement,
    Scale,
    Step,
    TensorFlowResize,
)
from npmnv2.images.streams import check_count
from npmnv2.kernels import VARIANTS, Array, DetectionRules, find_detections, scores_above
from npmnv2.network.config import MINIMUM_IMAGE_SIZE
from npmnv2.results.class_map import class_map, resized_logits

__all__ = [
    "PRESETS",
    "BatchFeature",
    "MobileNetV2FeatureExtractor",
    "MobileNetV2ImageProcessor",
    "ObjectDetections",
    "Placement",
    "Preset",
    "SegmentationScores",
    "check_share",
    "load_image",
]

Preset = Literal["hf", "slim", "keras", "raw", "deeplab", "ssd"]

PROCESSOR_FILE = "preprocessor_config.json"

# Settings come from files. What they may ask for: an input of 8192 × 8192 pixels, 0.8 GB, and text of this many bytes.
MAX_INPUT_PIXELS = 1 << 26
MAX_PROCESSOR_FILE = 1 << 20

_SIZE_FORMS = ({"shortest_edge"}, {"height", "width"}, {"max_height", "max_width"})
_CROP_FORMS = ({"height", "width"},)

# Written into configs by transformers, without meaning for what happens to the pixels here.
_BOOKKEEPING = {
    "_valid_processor_keys", "data_format", "default_to_square", "device", "disable_grouping", "do_pad",
    "feature_extractor_type", "image_processor_type", "image_seq_length", "input_data_format", "processor_class",
    "return_tensors",
}  # fmt: skip

_TENSORS: dict[str, tuple[str, str]] = {
    "np": ("numpy", "asarray"),
    "pt": ("torch", "from_numpy"),
    "tf": ("tensorflow", "convert_to_tensor"),
    "jax": ("jax.numpy", "asarray"),
}

_Processor = TypeVar("_Processor", bound="MobileNetV2ImageProcessor")
_Values = TypeVar("_Values")


def _hf(height: int, width: int) -> dict[str, Any]:
    return {
        "size": {"shortest_edge": max(height, width) + 32},
        "crop_size": {"height": height, "width": width},
    }


def _slim(height: int, width: int) -> dict[str, Any]:
    return {
        "central_fraction": 0.875,
        "size": {"height": height, "width": width},
        "resample": "tf1",
        "do_center_crop": False,
    }


def _keras(height: int, width: int) -> dict[str, Any]:
    return {
        "size": {"height": height, "width": width},
        "do_center_crop": False,
        # Keras divides by 127.5, then takes 1 away: not the same rounding as (x / 255 - 0.5) / 0.5.
        "rescale_factor": 1 / 127.5,
        "image_mean": 1.0,
        "image_std": 1.0,
    }


def _raw(height: int, width: int) -> dict[str, Any]:
    return {
        "do_resize": False,
        "size": {"height": height, "width": width},  # for a caller that switches the resize on
        "do_center_crop": False,
        "do_rescale": False,
        "do_normalize": False,
    }


def _deeplab(height: int, width: int) -> dict[str, Any]:
    return {
        "size": {"max_height": height, "max_width": width},
        "resample": LANCZOS,
        "do_center_crop": False,
        "pad_size": {"height": height, "width": width},
        "pad_value": 127.5,  # becomes 0
        "rescale_factor": 2 / 255,
        "image_mean": 1.0,
        "image_std": 1.0,
    }


def _ssd(height: int, width: int) -> dict[str, Any]:
    return {
        "size": {"height": height, "width": width},
        "resample": "tf1",
        "do_center_crop": False,
        # The graph's own number, which is a float32, and its order.
        "rescale_factor": float(np.float32(0.007843138)),
        "rescale_first": False,
        "image_mean": 1.0,
        "image_std": 1.0,
    }


# Settings of a processor for a network input of (height, width).
PRESETS: dict[str, Callable[[int, int], dict[str, Any]]] = {
    "hf": _hf,
    "slim": _slim,
    "keras": _keras,
    "raw": _raw,
    "deeplab": _deeplab,
    "ssd": _ssd,
}
_PRESET_SIZES = {"deeplab": 513, "ssd": 300}


class BatchFeature(dict[str, Any], Generic[_Values]):
    """A dictionary whose entries are attributes too: ``inputs["pixel_values"]`` is ``inputs.pixel_values``.

    Attributes
    ----------
    pixel_values : array [shape=(N, channels, height, width)], or a list of arrays without their first axis
    labels : integers [shape=(N, height, width)], or a list
        Where there were segmentation maps.
    """

    pixel_values: _Values
    labels: _Values

    if not TYPE_CHECKING:  # type checkers know the names above, and report any other

        def __getattr__(self, name: str) -> Any:
            try:
                return self[name]
            except KeyError:
                raise AttributeError(f"there is no {name!r}; there are {sorted(self)}") from None

    def __dir__(self) -> list[str]:
        """The entries and the attributes of every dictionary."""
        return [*super().__dir__(), *self]


class SegmentationScores(NamedTuple):
    """A label map [shape=(height, width)] and the scores that led to it [shape=(classes, height, width)]."""

    segmentation: NDArray[np.int64]
    segmentation_scores: Array


class ObjectDetections(TypedDict):
    """Detections on one image, as transformers gives them: `scores`, `labels` and `boxes`, best first."""

    scores: Array
    labels: NDArray[np.intp]
    boxes: Array


@dataclass(repr=False)
class MobileNetV2ImageProcessor:
    """Prepare photos for the network, with the arguments, defaults and bits of transformers' image processor.

    The results are bit-equal to ``MobileNetV2ImageProcessorPil`` of transformers 5.23, and to
    ``MobileNetV2ImageProcessor`` of the versions before 5. Where that one fails or goes wrong silently, this one
    differs: gray, RGBA and other images become RGB, EXIF orientation is applied, and float pixels of the wrong range
    are an error. None for an argument means its default.

    Parameters
    ----------
    do_resize, do_center_crop, do_rescale, do_normalize : bool
        Switches for the steps, which run in this order.
    size : dict
        ``{"shortest_edge": n}`` or ``{"height": h, "width": w}`` or ``{"max_height": h, "max_width": w}``; an integer
        stands for the shortest edge, a pair for height and width.
    resample : int or str
        A filter of Pillow (``PIL.Image.Resampling``), or TensorFlow's bilinear resize, which does not smooth, as
        ``"tf1"`` (TensorFlow 1's default), ``"tf1_align_corners"`` or ``"half_pixel"`` (TensorFlow 2).
    crop_size : dict
        ``{"height": h, "width": w}``; smaller images get zeros around them.
    rescale_factor : float
    image_mean, image_std : float or one float per channel
        ``(pixels * rescale_factor - image_mean) / image_std``.
    do_reduce_labels : bool
        In segmentation maps, take 1 off every label and make the background, 0, the ignored label 255.
    do_convert_rgb : bool
        Make every image RGB (`load_image` states the rules). False is for networks with ``num_channels`` other than 3.
    central_fraction : float, optional
        Before the resize keep this fraction of both sides.
    pad_size : dict, optional
        Pad below and on the right to ``{"height": h, "width": w}``…
    pad_value : float
        …with this value, on the scale of the photo (0…255).
    exif_orientation : bool
        Turn photos upright as their EXIF tag says.
    rescale_first : bool
        With a resize of TensorFlow's: rescale before it, as slim does, or after it, as the Object Detection API.

    Examples
    --------
    >>> inputs = MobileNetV2ImageProcessor()("cat.jpg", return_tensors="np")  # doctest: +SKIP
    >>> inputs.pixel_values.shape  # doctest: +SKIP
    (1, 3, 224, 224)
    """

    do_resize: bool = True
    size: Any = field(default_factory=lambda: {"shortest_edge": 256})
    resample: Any = BILINEAR
    do_center_crop: bool = True
    crop_size: Any = field(default_factory=lambda: {"height": 224, "width": 224})
    do_rescale: bool = True
    rescale_factor: float = 1 / 255
    do_normalize: bool = True
    image_mean: Any = (0.5, 0.5, 0.5)
    image_std: Any = (0.5, 0.5, 0.5)
    do_reduce_labels: bool = False
    do_convert_rgb: bool = field(default=True, kw_only=True)
    central_fraction: float | None = field(default=None, kw_only=True)
    pad_size: Any = field(default=None, kw_only=True)
    pad_value: float = field(default=0.0, kw_only=True)
    exif_orientation: bool = field(default=True, kw_only=True)
    rescale_first: bool = field(default=True, kw_only=True)

    model_input_names = ("pixel_values",)

    def __post_init__(self) -> None:
        for setting in dataclasses.fields(self):
            value = getattr(self, setting.name)
            if value is None:
                value = _default(setting)
            if value is not None:
                setattr(self, setting.name, _CHECKS[setting.name](setting.name, value))

    # -- configuration ------------------------------------------------------------------------------------------------

    @classmethod
    def preset(
        cls: type[_Processor], name: str, size: int | Sequence[int] | None = None, **overrides: Any
    ) -> _Processor:
        """Make the processor of a named way to prepare photos.

        Parameters
        ----------
        name : {"hf", "slim", "keras", "raw", "deeplab", "ssd"}
            A key of `PRESETS`.
        size : int or (height, width), optional
            Size of the network's input; 224, or 513 for `deeplab` and 300 for `ssd`.
        **overrides
            Arguments of the class.
        """
        if not isinstance(name, str) or name not in PRESETS:
            raise ArgumentError(f"preset (={name!r}) must be one of {', '.join(PRESETS)}")
        sides = _size("size", _PRESET_SIZES.get(name, 224) if size is None else size, _CROP_FORMS)
        return cls.from_dict({**PRESETS[name](sides["height"], sides["width"]), **overrides})

    @classmethod
    def from_preprocessing(cls: type[_Processor], preprocessing: Mapping[str, Any], size: Any = None) -> _Processor:
        """Make the processor that a weight file asks for.

        `preprocessing` names a preset, with or without overrides, or is like `to_dict`; if it is empty, the preset is
        `hf`. `size` is the network's input size for a preset.
        """
        if preprocessing and "preset" not in preprocessing:
            return cls.from_dict(preprocessing)
        overrides = {key: value for key, value in preprocessing.items() if key not in ("preset", "size")}
        return cls.preset(preprocessing.get("preset", "hf"), preprocessing.get("size", size), **overrides)

    def to_preprocessing(self) -> dict[str, Any]:
        """Return preprocessing as a weight file stores it: the preset and its size, or else all settings."""
        sides = self.pad_size or (self.size if "height" in self.size else self.crop_size)
        for name in PRESETS:
            if self == type(self).preset(name, sides):
                return {"preset": name, "size": list(sides.values())}
        return {key: value for key, value in self.to_dict().items() if key != "image_processor_type"}

    @classmethod
    def from_dict(cls: type[_Processor], config: Mapping[str, Any], **overrides: Any) -> _Processor:
        """Make a processor from a dictionary of arguments, such as `to_dict` gives.

        Raises
        ------
        ValueError
            If there are keys that the processor does not know; all of them are named.
        """
        settings = {**config, **overrides}
        known = {setting.name for setting in dataclasses.fields(cls)}
        unknown = sorted(settings.keys() - known - _BOOKKEEPING)
        if unknown:
            raise ArgumentError(f"unknown settings of an image processor: {unknown}; known are {sorted(known)}")
        return cls(**{key: value for key, value in settings.items() if key in known})

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments as plain data. Those that transformers lacks appear only if not at their default."""
        config: dict[str, Any] = {"image_processor_type": "MobileNetV2ImageProcessor"}
        for setting in dataclasses.fields(self):
            value = getattr(self, setting.name)
            if not setting.kw_only or value != _default(setting):
                config[setting.name] = dict(value) if isinstance(value, dict) else value
        return config

    def to_json_string(self) -> str:
        """Return the arguments as JSON, the text of ``preprocessor_config.json``."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_pretrained(cls: type[_Processor], path: str | Path, **overrides: Any) -> _Processor:
        """Read ``preprocessor_config.json`` from a directory (or the file itself).

        Raises
        ------
        FileNotFoundError
            If there is no such file. Nothing is downloaded.
        ValueError
            If it is not JSON, or has unknown keys.
        """
        file = Path(path) / PROCESSOR_FILE if Path(path).is_dir() else Path(path)
        if not file.is_file():
            raise FileNotFoundError(f"{path} must be a directory with a {PROCESSOR_FILE}, or that file")
        if file.stat().st_size > MAX_PROCESSOR_FILE:
            raise ArgumentError(f"{file} must have at most {MAX_PROCESSOR_FILE} bytes, got {file.stat().st_size}")
        try:
            config = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ArgumentError(f"{file} is not JSON: {error}") from None
        if not isinstance(config, dict):
            raise ArgumentError(f"{file} must hold a JSON object, got {type(config).__name__}")
        return cls.from_dict(config, **overrides)

    def save_pretrained(self, directory: str | Path) -> list[str]:
        """Write ``preprocessor_config.json`` into a directory, making it where needed; return the file's path."""
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        with write_atomically(folder / PROCESSOR_FILE) as file:
            file.write_text(self.to_json_string(), encoding="utf-8")
        return [str(folder / PROCESSOR_FILE)]

    # -- photos in, arrays out ----------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        """The preset, or else all settings that are not at their defaults."""
        settings = self.to_preprocessing()
        if "preset" in settings:
            return f"{type(self).__name__}.preset({settings['preset']!r}, {tuple(settings['size'])})"
        changed = (f for f in dataclasses.fields(self) if getattr(self, f.name) != _default(f))
        return f"{type(self).__name__}({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in changed)})"

    @overload
    def __call__(
        self, images: Any, segmentation_maps: Any = ..., *, return_tensors: Literal["np"], **options: Any
    ) -> BatchFeature[NDArray[Any]]: ...
    @overload
    def __call__(
        self, images: Any, segmentation_maps: Any = ..., *, return_tensors: None = ..., **options: Any
    ) -> BatchFeature[list[NDArray[Any]]]: ...
    @overload
    def __call__(
        self, images: Any, segmentation_maps: Any = ..., *, return_tensors: str | None, **options: Any
    ) -> BatchFeature[Any]: ...
    def __call__(self, images: Any, segmentation_maps: Any = None, **options: Any) -> BatchFeature[Any]:
        """Same as `preprocess`."""
        return self.preprocess(images, segmentation_maps, **options)

    @overload
    def preprocess(
        self, images: Any, segmentation_maps: Any = ..., *, return_tensors: Literal["np"], **options: Any
    ) -> BatchFeature[NDArray[Any]]: ...
    @overload
    def preprocess(
        self, images: Any, segmentation_maps: Any = ..., *, return_tensors: None = ..., **options: Any
    ) -> BatchFeature[list[NDArray[Any]]]: ...
    @overload
    def preprocess(
        self, images: Any, segmentation_maps: Any = ..., *, return_tensors: str | None, **options: Any
    ) -> BatchFeature[Any]: ...
    def preprocess(
        self,
        images: Any,
        segmentation_maps: Any = None,
        *,
        return_tensors: str | None = None,
        data_format: str = "channels_first",
        input_data_format: str | None = None,
        **overrides: Any,
    ) -> BatchFeature[Any]:
        """Prepare one image or several.

        Parameters
        ----------
        images : image, list of images, or array [shape=(N, height, width, channels)]
            See `load_image` for what an image can be.
        segmentation_maps : label map or list of label maps, optional
            Integer arrays (height, width) or Pillow images with labels 0…255. They are resized without interpolation
            and come back as `labels`, int64.
        return_tensors : {None, "np", "pt", "tf", "jax"}
            None gives a list of arrays, the others one array or tensor of all images.
        data_format : {"channels_first", "channels_last"}
            Layout of the result.
        input_data_format : {"channels_first", "channels_last"}, optional
            Layout of the arrays in `images`. Without it the axis of length 1, 3 or 4 is taken for the channels.
        **overrides
            Arguments of the class, for this call only; None leaves one as it is.

        Returns
        -------
        BatchFeature
            `pixel_values` [shape=(N, channels, height, width)], float32 once rescaled or normalized, and `labels`
            [shape=(N, height, width)] if there were segmentation maps.
        """
        processor = self._with(overrides)
        channels_first = _is_channels_first(data_format, "data_format")
        arrays = [
            processor._run(_channels_last(image, input_data_format), processor.do_convert_rgb)
            for image in _listed(images, 3)
        ]
        features = {
            "pixel_values": [np.array(a.transpose(2, 0, 1) if channels_first else a, order="C") for a in arrays]
        }
        if segmentation_maps is not None:
            features["labels"] = [processor._labels(labels) for labels in _listed(segmentation_maps, 2)]
        return BatchFeature({name: _as_tensor(values, return_tensors) for name, values in features.items()})

    def to_array(self, images: Any, min_side: int = MINIMUM_IMAGE_SIZE) -> NDArray[np.float32]:
        """Prepare one image or several for the network's own layout.

        Arrays must be (height, width, channels); nothing is guessed. Images of which a side is below `min_side` are
        refused.

        Returns
        -------
        array [shape=(N, height, width, channels)], float32

        Raises
        ------
        ImageError
            Also if an image is too small, or if they end up with different sizes.
        """
        arrays = [self._run(image, self.do_convert_rgb, min_side) for image in _listed(images, 3)]
        return _stacked(arrays).astype(np.float32, copy=False)

    def output_size(self, otherwise: int) -> Pair:
        """(height, width) of the network's input; `otherwise` where that depends on the photo."""
        sides = self.pad_size or (self.crop_size if self.do_center_crop else self.size)
        return sides.get("height", otherwise), sides.get("width", otherwise)

    def placement(self, photo: Pair) -> Placement:
        """Where a photo of (height, width) pixels ends up on the network's input."""
        placement = Placement(photo, photo)
        for step in self.steps():
            placement = step.place(placement)
        return placement

    def steps(self) -> list[Step]:
        """Return the steps that every image goes through, in order."""
        steps: list[Step] = []
        factor = self.rescale_factor if self.do_rescale else None
        if self.central_fraction is not None:
            steps.append(CentralFraction(self.central_fraction))
        if self.do_resize and self.resample in VARIANTS:
            # TensorFlow resizes in float32, before it rescales or after; Pillow resizes bytes.
            first = factor if self.rescale_first else None
            steps.append(TensorFlowResize(self.size, self.resample, 1.0 if first is None else first))
            factor = None if self.rescale_first else factor
        elif self.do_resize:
            steps.append(PillowResize(self.size, self.resample, self._expects_unit_range))
        if self.do_center_crop:
            steps.append(CenterCrop((self.crop_size["height"], self.crop_size["width"])))
        if self.pad_size is not None:
            steps.append(PadAfter((self.pad_size["height"], self.pad_size["width"]), self.pad_value))
        mean, std = (self.image_mean, self.image_std) if self.do_normalize else (None, None)
        steps.append(Scale(factor, mean, std))
        return steps

    def _with(self: _Processor, overrides: Mapping[str, Any]) -> _Processor:
        given = {name: value for name, value in overrides.items() if value is not None}
        return type(self).from_dict(self.to_dict(), **given) if given else self

    def _run(self, image: ImageSource, convert_rgb: bool, min_side: int = 1) -> Pixels:
        pixels = load_image(image, exif_orientation=self.exif_orientation, convert_rgb=convert_rgb, min_side=min_side)
        self._check_range(pixels, image)
        for step in self.steps():
            pixels = step(pixels)
        return pixels

    @property
    def _expects_unit_range(self) -> bool:
        """Whether float pixels are to lie in 0…1, because nothing after the resize would divide them."""
        return not self.do_rescale and not (self.do_normalize and np.max(self.image_mean) > 1)

    def _check_range(self, pixels: Pixels, image: ImageSource) -> None:
        untouched = not (self.do_resize or self.do_rescale or self.do_normalize)
        if untouched or not np.issubdtype(pixels.dtype, np.floating):
            return
        low, high = pixels.min(), pixels.max()
        top = 1 if self._expects_unit_range else 255
        if low < 0 or high > top:
            raise ImageError(
                f"{describe(image)}: float pixels must lie in 0…{top} with these settings, got {low:.4g}…{high:.4g}; "
                'for pixels that are scaled already use the preset "raw"'
            )
        if top == 255 and 0 < high <= 1:
            raise ImageError(
                f"{describe(image)}: float pixels must lie in 0…255 but none is above {high:.4g}, which would be all "
                "but black; multiply by 255, or set do_rescale=False if they lie in 0…1"
            )

    def _labels(self, labels: Any) -> NDArray[np.int64]:
        values = to_numpy(labels) if is_array(labels) else np.asarray(labels)
        if values.ndim != 2 or not np.issubdtype(values.dtype, np.integer):
            raise ImageError(
                "a segmentation map must be an integer array of shape (height, width), "
                f"got {values.dtype} of shape {values.shape}"
            )
        if values.size and (values.min() < 0 or values.max() > 255):
            raise ImageError(f"labels must lie in 0…255, got {values.min()}…{values.max()}")
        if self.do_reduce_labels:
            values = np.where((values == 0) | (values == 255), 255, values - 1)
        for_labels = dataclasses.replace(self, resample=NEAREST, do_rescale=False, do_normalize=False, pad_value=255)
        return for_labels._run(values.astype(np.uint8), convert_rgb=False)[:, :, 0].astype(np.int64)

    # -- the network's output -----------------------------------------------------------------------------------------

    @overload
    def post_process_semantic_segmentation(
        self,
        outputs: Any,
        target_sizes: Iterable[Sequence[int]] | None = ...,
        return_segmentation_scores: Literal[False] = ...,
    ) -> list[NDArray[np.int64]]: ...
    @overload
    def post_process_semantic_segmentation(
        self,
        outputs: Any,
        target_sizes: Iterable[Sequence[int]] | None = ...,
        *,
        return_segmentation_scores: Literal[True],
    ) -> list[SegmentationScores]: ...
    def post_process_semantic_segmentation(
        self,
        outputs: Any,
        target_sizes: Iterable[Sequence[int]] | None = None,
        return_segmentation_scores: bool = False,
    ) -> list[Any]:
        """Label maps from the output of `MobileNetV2ForSemanticSegmentation`.

        Parameters
        ----------
        outputs : object
            With an attribute `logits` [shape=(N, classes, height, width)].
        target_sizes : list of (height, width), optional
            Per image, the size that its logits are resized to (bilinear, half-pixel) before the best class is taken.
            With a center crop among the steps this stretches the crop over the whole photo, as in transformers.
        return_segmentation_scores : bool
            Return the resized logits too.

        Returns
        -------
        list of arrays [shape=(height, width)], int64
            Or, with scores, a list of `SegmentationScores`, whose scores are the resized logits.
        """
        if getattr(outputs, "logits", None) is None:
            raise ArgumentError(f"outputs must have logits, got {type(outputs).__name__} without")
        logits = np.asarray(outputs.logits)
        sizes = _target_sizes(target_sizes, len(logits), (logits.shape[2], logits.shape[3]))
        images = logits.transpose(0, 2, 3, 1)
        if not return_segmentation_scores:
            return [class_map(image, size, "half_pixel") for image, size in zip(images, sizes)]
        resized = [resized_logits(image, size, "half_pixel") for image, size in zip(images, sizes)]
        return [SegmentationScores(scores.argmax(-1), scores.transpose(2, 0, 1)) for scores in resized]

    def post_process_object_detection(
        self,
        outputs: Any,
        threshold: float = 0.5,
        target_sizes: Iterable[Sequence[int]] | None = None,
        *,
        nms: Literal["per_class", "agnostic"] = "per_class",
        iou: float = 0.6,
        max_detections: int = 100,
    ) -> list[ObjectDetections]:
        """Choose detections from the output of `MobileNetV2ForObjectDetection`.

        Parameters
        ----------
        outputs : object
            With attributes `logits` [shape=(N, anchors, columns)], `scores` [shape=(N, anchors, classes)] and
            `pred_boxes` [shape=(N, anchors, 4)].
        threshold : float
            Of scores, 0…1.
        target_sizes : list of (height, width), optional
            Per image, the size that boxes are scaled to; without it they are in parts of the input's sides. With a
            crop among the steps this stretches the crop over the whole photo, as in transformers: `predict` does not.
        nms, iou, max_detections
            As in `MobileNetV2ForObjectDetection.predict`. Transformers' detectors need none of them.

        Returns
        -------
        list of dict
            For every image `scores` [shape=(n,)], `labels` [shape=(n,)], which ``config.id2label`` names, and `boxes`
            [shape=(n, 4)], (left, top, right, bottom).
        """
        for name in ("logits", "scores", "pred_boxes"):
            if getattr(outputs, name, None) is None:
                raise ArgumentError(f"outputs must have {name}, got {type(outputs).__name__} without")
        scores, centered = np.asarray(outputs.scores), np.asarray(outputs.pred_boxes)
        sizes = _target_sizes(target_sizes, len(scores))
        if nms not in ("per_class", "agnostic"):
            raise ArgumentError(f"nms (={nms!r}) must be one of per_class, agnostic")
        rules = DetectionRules(
            check_share("threshold", threshold),
            check_share("iou", iou),
            nms == "agnostic",
            max_total=check_count("max_detections", max_detections),
        )
        background = np.shape(outputs.logits)[-1] - scores.shape[-1]
        return [
            _object_detections(values, boxes, rules, background, size)
            for values, boxes, size in zip(scores, centered, sizes)
        ]


class MobileNetV2FeatureExtractor(MobileNetV2ImageProcessor):
    """Old name of `MobileNetV2ImageProcessor`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        warnings.warn(
            "MobileNetV2FeatureExtractor is deprecated, use MobileNetV2ImageProcessor", FutureWarning, stacklevel=2
        )
        super().__init__(*args, **kwargs)


# -- checks of settings: name, value → value to keep ------------------------------------------------------------------


def _default(setting: dataclasses.Field[Any]) -> Any:
    if setting.default_factory is not dataclasses.MISSING:
        return setting.default_factory()
    return setting.default


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise ArgumentTypeError(f"{name} (={value!r}) must be True or False")
    return bool(value)


def _size(name: str, value: Any, forms: Sequence[set[str]]) -> dict[str, int]:
    if isinstance(value, (int, np.integer)):
        value = {"shortest_edge": value} if {"shortest_edge"} in forms else {"height": value, "width": value}
    elif not isinstance(value, Mapping) and np.size(value) == 2:
        value = dict(zip(("height", "width"), value))
    if not isinstance(value, Mapping) or set(value) not in forms:
        allowed = " or ".join(str(sorted(form)) for form in forms)
        raise ArgumentError(
            f"{name} (={value!r}) must be an integer, a (height, width) or a dict with the keys {allowed}"
        )
    sides = list(value.values())
    if not all(isinstance(side, (int, np.integer)) and not isinstance(side, bool) and side > 0 for side in sides):
        raise ArgumentError(f"{name} (={value!r}) must hold positive integers")
    if int(sides[0]) * int(sides[-1]) > MAX_INPUT_PIXELS:
        raise ArgumentError(f"{name} (={value!r}) must make an input of at most {MAX_INPUT_PIXELS:,} pixels")
    return {key: int(side) for key, side in value.items()}


def _resample(name: str, value: Any) -> int | str:
    if value in VARIANTS:
        return str(value)
    if isinstance(value, int) and value in (NEAREST, LANCZOS, BILINEAR):
        return int(value)
    from PIL import Image

    try:
        return int(Image.Resampling(value))
    except ValueError:
        filters = ", ".join(f"{int(f)} ({f.name.lower()})" for f in Image.Resampling)
        raise ArgumentError(f"{name} (={value!r}) must be one of {filters}, {', '.join(VARIANTS)}") from None


def _number(name: str, value: Any) -> float:
    if isinstance(value, (bool, str)) or not np.isscalar(value) or not np.isfinite(value):
        raise ArgumentError(f"{name} (={value!r}) must be a finite number")
    return float(value)  # type: ignore[arg-type]


def _numbers(name: str, value: Any) -> float | tuple[float, ...]:
    if np.isscalar(value):
        return _number(name, value)
    return tuple(_number(name, entry) for entry in value)


def _nonzero_numbers(name: str, value: Any) -> float | tuple[float, ...]:
    numbers = _numbers(name, value)
    if not np.all(numbers):
        raise ArgumentError(f"{name} (={value!r}) must not be 0: it divides")
    return numbers


def _fraction(name: str, value: Any) -> float:
    if not 0 < _number(name, value) <= 1:
        raise ArgumentError(f"{name} (={value!r}) must be above 0 and at most 1")
    return float(value)


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "do_resize": _flag,
    "size": lambda name, value: _size(name, value, _SIZE_FORMS),
    "resample": _resample,
    "do_center_crop": _flag,
    "crop_size": lambda name, value: _size(name, value, _CROP_FORMS),
    "do_rescale": _flag,
    "rescale_factor": _number,
    "do_normalize": _flag,
    "image_mean": _numbers,
    "image_std": _nonzero_numbers,
    "do_reduce_labels": _flag,
    "do_convert_rgb": _flag,
    "central_fraction": _fraction,
    "pad_size": lambda name, value: _size(name, value, _CROP_FORMS),
    "pad_value": _number,
    "exif_orientation": _flag,
    "rescale_first": _flag,
}


# -- arguments of a call -----------------------------------------------------------------------------------------------


def _listed(images: Any, ndim: int) -> list[Any]:
    """One image or several as a list; an array of more than `ndim` axes is a batch."""
    if isinstance(images, (list, tuple)):
        return list(images)
    if is_array(images) and (np.ndim(images) > ndim or is_column(images)):
        return list(to_numpy(images))
    return [images]


def _is_channels_first(value: Any, name: str) -> bool:
    layout = getattr(value, "value", value)  # transformers' ChannelDimension is an enumeration of these strings
    if layout not in ("channels_first", "channels_last"):
        raise ArgumentError(f"{name} (={value!r}) must be 'channels_first' or 'channels_last'")
    return bool(layout == "channels_first")


def _channels_last(image: Any, input_data_format: str | None) -> Any:
    if not is_array(image) or np.ndim(image) != 3:
        return image
    pixels = to_numpy(image)
    if input_data_format is not None:
        first = _is_channels_first(input_data_format, "input_data_format")
    else:
        first = pixels.shape[0] in (1, 3, 4)
        if first and pixels.shape[-1] in (1, 3, 4):
            raise ImageError(
                f"which axis of shape {pixels.shape} holds the channels is unclear; "
                "pass input_data_format='channels_last' or 'channels_first'"
            )
    return np.moveaxis(pixels, 0, -1) if first else pixels


def _target_sizes(sizes: Iterable[Sequence[int]] | None, count: int, default: Pair = (1, 1)) -> list[Pair]:
    """One (height, width) for each of the images."""
    checked = [default] * count if sizes is None else [_pair(size) for size in sizes]
    if len(checked) != count:
        raise ArgumentError(
            f"target_sizes must have one (height, width) for each of the {count} images, got {len(checked)}"
        )
    return checked


def check_share(name: str, value: Any) -> float:
    """Return `value` as a float; raise an ArgumentError unless it is a number from 0 to 1."""
    if isinstance(value, (bool, str)) or not np.isscalar(value) or not 0 <= value <= 1:  # type: ignore[operator]
        raise ArgumentError(f"{name} (={value!r}) must be a number from 0 to 1")
    return float(value)  # type: ignore[arg-type]


def _object_detections(
    scores: Array, centered: Array, rules: DetectionRules, background: int, size: Pair
) -> ObjectDetections:
    """Detections of one image, of boxes (center x, center y, width, height)."""
    found = scores_above(scores, "identity", False, rules.score_threshold)
    x, y, width, height = centered[found.anchors].T
    boxes = np.stack([y - height / 2, x - width / 2, y + height / 2, x + width / 2], axis=-1)
    chosen = find_detections(boxes, found, rules)
    scaled = chosen.boxes[:, [1, 0, 3, 2]] * np.array([size[1], size[0]] * 2, boxes.dtype)
    return ObjectDetections(scores=chosen.scores, labels=chosen.classes + background, boxes=scaled)


def _pair(size: Sequence[int]) -> Pair:
    height = width = 0
    with suppress(TypeError, ValueError):
        height, width = map(operator.index, size)
    if min(height, width) < 1:
        raise ArgumentError(f"target_sizes must be pairs (height, width) of integers above 0, got {size!r}")
    return height, width


def _stacked(arrays: Sequence[Pixels]) -> Pixels:
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) != 1:
        raise ImageError(
            f"images must have one size after preprocessing to form a batch, got shapes {shapes}; "
            "pass them one by one or use settings that resize to a fixed size"
        )
    return np.stack(arrays)


def _as_tensor(arrays: list[Pixels], framework: str | None) -> Any:
    if framework is None:
        return arrays
    framework = getattr(framework, "value", framework)
    if framework not in _TENSORS:
        raise ArgumentError(f"return_tensors (={framework!r}) must be None or one of {', '.join(_TENSORS)}")
    module, function = _TENSORS[framework]
    try:
        convert = getattr(importlib.import_module(module), function)
    except ImportError:
        raise MissingPackageError(
            f"return_tensors={framework!r} needs {module.split('.')[0]}, which is not installed"
        ) from None
    return convert(_stacked(arrays))
