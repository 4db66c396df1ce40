"""`MobileNetV2ForSemanticSegmentation`: transformers' class on NumPy arrays, and `predict` for photos."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from npmnv2.errors import ArgumentError, ArgumentTypeError, ImageError
from npmnv2.images.loading import ImageSource
from npmnv2.images.processor import MobileNetV2ImageProcessor
from npmnv2.images.steps import Pair, Placement
from npmnv2.images.streams import OnError, map_images
from npmnv2.kernels import Array, LinearWeights, resize_bilinear
from npmnv2.models.base import DataFormat, HiddenStates, MobileNetV2PreTrainedModel, Transform, layout
from npmnv2.models.losses import segmentation_loss
from npmnv2.models.outputs import HiddenStatesOutput, SemanticSegmenterOutput
from npmnv2.models.photo import Photo
from npmnv2.network.architecture import LAST_CONV
from npmnv2.network.config import MobileNetV2Config
from npmnv2.network.deeplab import IMAGE_POOL, LOGITS, segmenter
from npmnv2.network.plan import Plan, batch_norm_name
from npmnv2.results.class_map import Grid, best_classes, mean_scores
from npmnv2.results.segmentation import Segmentation
from npmnv2.weights.checkpoint import Checkpoint

if TYPE_CHECKING:
    from typing_extensions import Unpack

# Label maps need 4 bytes a pixel; the scores of all classes are refused beyond this.
MAX_SCORE_BYTES = 2 << 30

# transformers keeps this layer in segmentation checkpoints, although nothing uses it.
_UNUSED_LAYERS = (LAST_CONV, batch_norm_name(LAST_CONV))


class SegmentOptions(TypedDict, total=False):
    """Options of `predict`, for type checkers."""

    transform: Transform
    scales: Sequence[float]
    flip: bool
    scores: bool
    batch_size: int


class MobileNetV2ForSemanticSegmentation(MobileNetV2PreTrainedModel):
    """The network with DeepLab's head (`npmnv2.network.deeplab`); it runs no further than the last block.

    The constructor takes the arguments of `MobileNetV2PreTrainedModel`. ``config.decoder`` and ``config.atrous_rates``
    choose between the kinds of head.
    """

    task = "segmentation"
    embedding = IMAGE_POOL

    @classmethod
    def build(cls, config: MobileNetV2Config) -> Plan:
        """Backbone up to the last block, and the head."""
        return segmenter(config)

    @classmethod
    def select(cls, checkpoint: Checkpoint, where: str) -> dict[str, Array]:
        """The weights of a segmentation file, without the last convolution that some of them carry along."""
        weights = super().select(checkpoint, where)
        return {name: array for name, array in weights.items() if name.rpartition("/")[0] not in _UNUSED_LAYERS}

    @overload
    def __call__(
        self,
        pixel_values: ArrayLike | None = ...,
        labels: ArrayLike | None = ...,
        output_hidden_states: bool | None = ...,
        return_dict: Literal[True] | None = ...,
        *,
        data_format: DataFormat = ...,
    ) -> SemanticSegmenterOutput: ...
    @overload
    def __call__(
        self,
        pixel_values: ArrayLike | None = ...,
        *,
        output_hidden_states: Sequence[int | str],
        return_dict: Literal[True] | None = ...,
        data_format: DataFormat = ...,
    ) -> HiddenStatesOutput: ...
    @overload
    def __call__(
        self,
        pixel_values: ArrayLike | None = ...,
        labels: ArrayLike | None = ...,
        output_hidden_states: HiddenStates = ...,
        *,
        return_dict: Literal[False],
        data_format: DataFormat = ...,
    ) -> tuple[Any, ...]: ...
    def __call__(
        self,
        pixel_values: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        output_hidden_states: HiddenStates = None,
        return_dict: bool | None = None,
        *,
        data_format: DataFormat = "channels_first",
    ) -> SemanticSegmenterOutput | HiddenStatesOutput | tuple[Any, ...]:
        """Run on prepared images.

        Parameters
        ----------
        pixel_values : Array [shape=(N, C, H, W)]
            With ``data_format="channels_last"`` (N, H, W, C), which saves a transpose; maps in the output follow.
        labels : integers [shape=(N, H, W)], optional
            For the loss. ``config.semantic_loss_ignore_index`` marks pixels that do not count.
        output_hidden_states : bool or list of int and str
            True for the outputs of the 16 blocks beside the logits. A list of indices or endpoint names returns just
            those, and the run stops at the last one.
        return_dict : bool
            False for a plain tuple.

        Raises
        ------
        ValueError, TypeError
            If labels are not integers, lie out of range or are not of the images' size, or if there is but one class.
        """
        if labels is not None and self.config.classes == 1:
            raise ArgumentError(
                "num_labels (=1) must be at least 2 for a loss: with a single class every pixel is of that class"
            )
        values, hidden = self._forward(pixel_values, output_hidden_states, (LOGITS,), data_format)
        if values is None:
            return self._chosen(hidden, labels, return_dict)
        logits = values[LOGITS]
        loss = None
        if labels is not None:
            loss = self._loss(logits, labels, np.shape(self._channels_last(pixel_values, data_format))[1:3])
        output = SemanticSegmenterOutput(loss, layout(logits, data_format), hidden)
        return output.to_tuple() if return_dict is False else output

    def _loss(self, logits: Array, labels: ArrayLike, size: tuple[int, ...]) -> float:
        if np.shape(labels)[1:] != size:
            raise ArgumentError(
                f"labels must have the size of the images, (N, {size[0]}, {size[1]}), got {np.shape(labels)}"
            )
        return segmentation_loss(logits, labels, self.config.semantic_loss_ignore_index)

    # --- photos ------------------------------------------------------------------------------------------------------

    # The order matters: a path is an iterable of strings too, and an iterator an iterable.
    @overload
    def predict(  # type: ignore[overload-overlap]
        self, images: ImageSource, *, errors: Literal["raise"] = ..., **options: Unpack[SegmentOptions]
    ) -> Segmentation: ...
    @overload
    def predict(  # type: ignore[overload-overlap]
        self,
        images: Iterator[ImageSource],
        *,
        errors: Literal["raise", "skip"] = ...,
        **options: Unpack[SegmentOptions],
    ) -> Iterator[Segmentation]: ...
    @overload
    def predict(  # type: ignore[overload-overlap]
        self, images: Iterator[ImageSource], *, errors: OnError, **options: Unpack[SegmentOptions]
    ) -> Iterator[Segmentation | Exception]: ...
    @overload
    def predict(
        self,
        images: Iterable[ImageSource],
        *,
        errors: Literal["raise", "skip"] = ...,
        **options: Unpack[SegmentOptions],
    ) -> list[Segmentation]: ...
    @overload
    def predict(
        self, images: Iterable[ImageSource], *, errors: OnError, **options: Unpack[SegmentOptions]
    ) -> list[Segmentation | Exception]: ...
    def predict(
        self,
        images: ImageSource | Iterable[ImageSource],
        *,
        errors: OnError = "raise",
        transform: Transform = "deeplab",
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        scores: bool = False,
        batch_size: int = 1,
    ) -> Any:
        """Find the class of every pixel of photos.

        Parameters
        ----------
        images
            One image (path, PIL image, uint8 array (H, W, 3)), a list of them, or an iterator. Sizes may differ.
        errors : {"raise", "skip", "return"}
            What becomes of an image that cannot be used, as in `features`.
        transform : {"deeplab", "hf", "slim", "keras", "raw", "ssd"} or MobileNetV2ImageProcessor
            How a photo becomes the network's input, and the result a map of the photo. "deeplab" shrinks the longest
            side to the model's size, pads, and afterwards takes the padding off again. "hf" does as transformers does:
            it crops the center and stretches its map over the whole photo, which shifts everything but the center. Any
            other preset or image processor is used as it is, and its map is placed where its steps put the photo.
        scales : sequence of float
            Run at several sizes of the input and average the probabilities, as in DeepLab's evaluation:
            ``(0.5, 0.75, 1.0, 1.25, 1.5, 1.75)``.
        flip : bool
            Average with the map of the mirrored input.
        scores : bool
            Return the probabilities of all classes, 4 bytes a class and pixel.
        batch_size : int
            How many images run at once.

        Returns
        -------
        Segmentation
            For a list, a list of them; for an iterator, an iterator, which reads at most `batch_size` images ahead.

        Raises
        ------
        FileNotFoundError, ImageError
            If an image is missing or unusable, or too large for its scores; the message names it.

        Notes
        -----
        Scores, not labels, are resized to the photo: bilinearly, in TensorFlow's ``align_corners`` convention. For a
        photo whose longest side is the model's size this is DeepLab's own arithmetic. Memory is the network's plus
        about 14 bytes for every pixel of the photo.
        """
        processor, stretch = self._processor(transform), transform == "hf"
        scales = _checked_scales(scales)

        def prepare(image: Any) -> tuple[Array, Photo]:
            photo = Photo.load(image, processor, stretch)
            if scores:
                self._check_score_size(photo)
            return photo.network_input(processor), photo

        def finish(maps: list[Array], at: int, photo: Photo) -> Segmentation:
            logits = [values[at] for values in maps]
            grids = [logits_grid(photo, (values.shape[0], values.shape[1])) for values in logits]
            label_map, kept = assign_labels(logits, grids, scores)
            return Segmentation(label_map, self.labels, photo.rgb(), photo.source, kept)

        return map_images(images, prepare, lambda x: self._views(x, scales, flip), finish, batch_size, errors)

    def _processor(self, transform: Transform | None) -> MobileNetV2ImageProcessor:
        # The model's own processor may say more than its size: a different size of padding, or other statistics.
        pads = self.processor.pad_size is not None
        if (transform == "deeplab" and pads) or (transform == "hf" and not pads):
            return self.processor
        return super()._processor(transform)

    def _check_score_size(self, photo: Photo) -> None:
        height, width = photo.pixels.shape[:2]
        size = height * width * self.config.classes * 4
        if size > MAX_SCORE_BYTES:
            raise ImageError(
                f"{photo.name}: the scores of {width} × {height} pixels and {self.config.classes} classes would take "
                f"{size / 1e9:.1f} GB, more than {MAX_SCORE_BYTES / 1e9:.1f} GB; leave scores out, or shrink the photo"
            )

    def _views(self, x: Array, scales: Sequence[float], flip: bool) -> list[Array]:
        """Logits (N, h, w, classes) for the input at every scale, plain and mirrored."""
        maps = []
        for scale in scales:
            for mirrored in (False, True) if flip else (False,):
                view = _scaled(x, scale)
                logits = self.run(view[:, :, ::-1] if mirrored else view, (LOGITS,))[LOGITS]
                logits = logits[:, :, ::-1] if mirrored else logits
                maps.append(logits if scale == 1 else _resized(logits, self._logits_size(x, scale)))
        return maps

    def _logits_size(self, x: Array, scale: float) -> Pair:
        """Size to which DeepLab resizes logits: that of the whole input's, also for a smaller scale."""
        stride = 4 if self.config.decoder else self.config.output_stride
        return _scaled_size((x.shape[1], x.shape[2]), max(1.0, scale) / stride)


def logits_grid(photo: Photo, logits: Pair) -> Grid:
    """Where the pixels of a photo lie on logits of this (height, width)."""
    if photo.placement is None:
        return Grid.resize(logits, photo.size, "half_pixel")
    return unpadding_grid(photo.placement, logits)


def unpadding_grid(placement: Placement, logits: Pair) -> Grid:
    """Where the pixels of a photo lie on logits of (height, width), given where the photo lies on the network's input.

    The input's corner pixels stand for the corner logits (TensorFlow's ``align_corners``). Pixels at the photo's edge
    take nothing from the padding.
    """
    return Grid(
        *(
            _aligned_weights((np.arange(photo) + 0.5) * scale + offset - 0.5, content, size, values)
            for photo, scale, offset, content, size, values in zip(
                placement.photo, placement.scale, placement.offset, placement.content, placement.size, logits
            )
        )
    )


def _aligned_weights(points: NDArray[np.float64], content: slice, size: int, values: int) -> LinearWeights:
    """Neighbors and weights of points on one axis of the input, of `size` pixels, among `values` logits."""
    inside = np.clip(points, content.start, content.stop - 1).astype(np.float32)
    # In float32 and in this order, as `kernels.linear_weights`: points on whole pixels give TensorFlow's numbers.
    source = inside * (np.float32(values - 1) / np.float32(size - 1))
    lower = np.minimum(np.floor(source).astype(np.intp), values - 1)
    return LinearWeights(lower, np.minimum(lower + 1, values - 1), source - np.floor(source))


class LabelsAndScores(NamedTuple):
    """The best class of every pixel and, if asked for, the probabilities of all."""

    label_map: NDArray[np.int32]
    scores: Array | None


def assign_labels(maps: Sequence[Array], grids: Sequence[Grid], keep_scores: bool) -> LabelsAndScores:
    """The best class at every point of the grids, by the logits if there is one map, else by the mean probabilities."""
    size = grids[0].size
    label_map = best_classes(maps[0], grids[0], np.int32) if len(maps) == 1 else np.empty(size, np.int32)
    scores = np.empty((*size, maps[0].shape[-1]), maps[0].dtype) if keep_scores else None
    if len(maps) > 1 or scores is not None:
        for rows, values in mean_scores(maps, grids):
            if len(maps) > 1:
                label_map[rows] = values.argmax(-1)
            if scores is not None:
                scores[rows] = values
    return LabelsAndScores(label_map, scores)


def _checked_scales(scales: Sequence[float]) -> tuple[float, ...]:
    try:
        checked = tuple(float(scale) for scale in scales)
    except (TypeError, ValueError):
        raise ArgumentTypeError(f"scales (={scales!r}) must be a sequence of numbers") from None
    if not checked or not all(scale > 0 and math.isfinite(scale) for scale in checked):
        raise ArgumentError(f"scales (={scales!r}) must be one or more numbers above 0")
    return checked


def _scaled_size(size: Pair, scale: float) -> Pair:
    """DeepLab's rule: corner pixels stay corner pixels."""
    height, width = (int((side - 1) * scale + 1) for side in size)
    return height, width


def _scaled(x: Array, scale: float) -> Array:
    return x if scale == 1 else _resized(x, _scaled_size((x.shape[1], x.shape[2]), scale))


def _resized(x: Array, size: Pair) -> Array:
    return x if x.shape[1:3] == size else resize_bilinear(x, size, "tf1_align_corners")
