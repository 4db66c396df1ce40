"""`MobileNetV2ForObjectDetection`: transformers' conventions on NumPy arrays, and `predict` for photos."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict, overload

import numpy as np
from numpy.typing import ArrayLike

from npmnv2.errors import ArgumentError
from npmnv2.images.loading import ImageSource, load_image
from npmnv2.images.processor import MobileNetV2ImageProcessor, check_share
from npmnv2.images.steps import Pair, Placement
from npmnv2.images.streams import OnError, check_count, map_images
from npmnv2.kernels import (
    Array,
    DetectionRules,
    RawDetections,
    TfliteRules,
    class_scores,
    decode_boxes,
    detections_of,
    quantized,
    ssd_anchors,
    tflite_detection_postprocess,
)
from npmnv2.models.base import DataFormat, HiddenStates, MobileNetV2PreTrainedModel, Transform
from npmnv2.models.outputs import HiddenStatesOutput, ObjectDetectionOutput
from npmnv2.models.photo import Photo, as_rgb
from npmnv2.network.architecture import LAST_CONV
from npmnv2.network.config import MobileNetV2Config
from npmnv2.network.detection import SUPPRESSIONS, ExplicitAnchors, NonMaxSuppression, Suppression
from npmnv2.network.plan import Plan
from npmnv2.network.quantization import Logistic, Softmax
from npmnv2.network.ssd import BOX_ENCODINGS, CLASS_LOGITS, anchor_count, detector, map_sizes
from npmnv2.results.detection import Detections, Pixels

if TYPE_CHECKING:
    from typing_extensions import Unpack

# Sizes of inputs whose anchors are kept.
_MAX_KEPT_ANCHORS = 8


class DetectOptions(TypedDict, total=False):
    """Options of `predict`, for type checkers."""

    threshold: float
    max_detections: int
    nms: Suppression | None
    iou: float | None
    transform: Transform | None
    batch_size: int


class MobileNetV2ForObjectDetection(MobileNetV2PreTrainedModel):
    """The network with SSD's head (`npmnv2.network.ssd`).

    The constructor takes the arguments of `MobileNetV2PreTrainedModel`. ``config.ssd`` chooses the kind of head and
    says how boxes are decoded and chosen.
    """

    task = "detection"
    embedding = LAST_CONV
    preset = "ssd"

    @classmethod
    def build(cls, config: MobileNetV2Config) -> Plan:
        """Backbone, extra feature maps and predictors."""
        return detector(config)

    @overload
    def __call__(
        self,
        pixel_values: ArrayLike | None = ...,
        output_hidden_states: bool | None = ...,
        return_dict: Literal[True] | None = ...,
        *,
        data_format: DataFormat = ...,
    ) -> ObjectDetectionOutput: ...
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
        output_hidden_states: HiddenStates = ...,
        *,
        return_dict: Literal[False],
        data_format: DataFormat = ...,
    ) -> tuple[Any, ...]: ...
    def __call__(
        self,
        pixel_values: ArrayLike | None = None,
        output_hidden_states: HiddenStates = None,
        return_dict: bool | None = None,
        *,
        data_format: DataFormat = "channels_first",
    ) -> ObjectDetectionOutput | HiddenStatesOutput | tuple[Any, ...]:
        """Run on prepared images; see `MobileNetV2Model.__call__`.

        Returns
        -------
        ObjectDetectionOutput
            With the class scores and the decoded box of every anchor. The image processor's
            `post_process_object_detection` chooses detections of them.
        """
        values, hidden = self._forward(pixel_values, output_hidden_states, (CLASS_LOGITS, BOX_ENCODINGS), data_format)
        if values is None:
            return self._chosen(hidden, None, return_dict)
        shape = np.shape(self._channels_last(pixel_values, data_format))
        output = self._output(values[CLASS_LOGITS], values[BOX_ENCODINGS], (shape[1], shape[2]))
        output.hidden_states = hidden
        return output.to_tuple() if return_dict is False else output

    def _output(self, logits: Array, codes: Array, size: Pair) -> ObjectDetectionOutput:
        ssd = self.config.ssd
        top, left, bottom, right = np.moveaxis(decode_boxes(codes, self.anchors(*size), ssd.box_scales), -1, 0)
        boxes = np.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], axis=-1)
        return ObjectDetectionOutput(logits, boxes, class_scores(logits, ssd.score_converter, ssd.background))

    def anchors(self, height: int, width: int) -> Array:
        """Anchors for an input of this size, in the order of the predictions.

        Returns
        -------
        Array [shape=(anchors, 4)]
            (y, x, height, width): centers and sizes, in parts of the input's sides.

        Raises
        ------
        ArgumentError
            If the weight file lists its anchors, and the list is for inputs of a different size.
        """
        kept: dict[Pair, Array] = self.__dict__.setdefault("_anchors", {})
        anchors = kept.get((height, width))
        if anchors is None:
            anchors = self._made_anchors(height, width)
            if len(kept) >= _MAX_KEPT_ANCHORS:
                kept.clear()
            kept[height, width] = anchors
        return anchors

    def _made_anchors(self, height: int, width: int) -> Array:
        options = self.config.ssd.anchors
        if isinstance(options, ExplicitAnchors):
            anchors: Array = np.array(options.boxes, self.dtype).reshape(-1, 4)
            needed = anchor_count(self.config, height, width)
            if len(anchors) != needed:
                raise ArgumentError(
                    f"anchors must be {needed} for an input of {height} × {width} pixels, got the {len(anchors)} that "
                    "the weight file lists; use its own size, or list others in config.ssd.anchors"
                )
            return anchors
        sizes = map_sizes(self.config, height, width)
        return ssd_anchors(sizes, options.rules, (height, width)).astype(self.dtype)

    # --- photos ------------------------------------------------------------------------------------------------------

    # The order matters: a path is an iterable of strings too, and an iterator an iterable.
    @overload
    def predict(  # type: ignore[overload-overlap]
        self, images: ImageSource, *, errors: Literal["raise"] = ..., **options: Unpack[DetectOptions]
    ) -> Detections: ...
    @overload
    def predict(  # type: ignore[overload-overlap]
        self,
        images: Iterator[ImageSource],
        *,
        errors: Literal["raise", "skip"] = ...,
        **options: Unpack[DetectOptions],
    ) -> Iterator[Detections]: ...
    @overload
    def predict(  # type: ignore[overload-overlap]
        self, images: Iterator[ImageSource], *, errors: OnError, **options: Unpack[DetectOptions]
    ) -> Iterator[Detections | Exception]: ...
    @overload
    def predict(
        self,
        images: Iterable[ImageSource],
        *,
        errors: Literal["raise", "skip"] = ...,
        **options: Unpack[DetectOptions],
    ) -> list[Detections]: ...
    @overload
    def predict(
        self, images: Iterable[ImageSource], *, errors: OnError, **options: Unpack[DetectOptions]
    ) -> list[Detections | Exception]: ...
    def predict(
        self,
        images: ImageSource | Iterable[ImageSource],
        *,
        threshold: float = 0.5,
        max_detections: int = 100,
        nms: Suppression | None = None,
        iou: float | None = None,
        errors: OnError = "raise",
        transform: Transform | None = None,
        batch_size: int = 8,
    ) -> Any:
        """Find things on photos.

        Parameters
        ----------
        images
            One image (path, PIL image, uint8 array (H, W, 3)), a list of them, or an iterator. Sizes may differ.
        threshold : float
            Report what has a score above it, 0…1. Lower values find more, and more that is wrong.
        max_detections : int
            Report at most this many a photo, the best ones.
        nms : {"per_class", "agnostic"}, optional
            Which of overlapping boxes are dropped as showing the same thing: those of one class, or those of any. The
            weight file's own rule if not given, usually "per_class".
        iou : float, optional
            From which overlap on, 0…1 (intersection over union); the weight file's own if not given, usually 0.6.
        errors : {"raise", "skip", "return"}
            What becomes of an image that cannot be used, as in `features`.
        transform : {"ssd", "hf", "slim", "keras", "raw", "deeplab"} or MobileNetV2ImageProcessor, optional
            How a photo becomes the network's input, as in `features`. Boxes are carried back to the photo; what the
            steps cut off is not seen.
        batch_size : int
            How many images run at once.

        Returns
        -------
        Detections
            For a list, a list of them; for an iterator, an iterator, which reads at most `batch_size` images ahead.

        Raises
        ------
        FileNotFoundError, ImageError
            If an image is missing or unusable; the message names it.
        """
        processor = self._processor(transform)
        rules = self._rules(threshold, max_detections, nms, iou)

        def prepare(image: Any) -> tuple[Array, Seen]:
            photo = Photo.load(image, processor)
            seen = Seen(processor.placement(photo.size), photo.source, _reader(image, photo, processor))
            return photo.network_input(processor).astype(self.dtype, copy=False), seen

        def run(x: Array) -> tuple[Array, Array, Pair]:
            values = self.run(x, (CLASS_LOGITS, BOX_ENCODINGS))
            return values[CLASS_LOGITS], values[BOX_ENCODINGS], (x.shape[1], x.shape[2])

        def finish(values: tuple[Array, Array, Pair], at: int, seen: Seen) -> Detections:
            logits, codes, size = values
            return self.carried_back(self.choose(logits[at], codes[at], size, rules), seen)

        return map_images(images, prepare, run, finish, batch_size, errors)

    def invoke(self, x: Any) -> tuple[Array, ...]:
        """What the interpreter of a quantized network's TFLite file returns for its input.

        Returns
        -------
        tuple of float32 arrays
            Boxes [shape=(N, slots, 4)] as (top, left, bottom, right) in parts of the sides, classes and scores
            [shape=(N, slots)], and the number of boxes [shape=(N,)]. Of slots beyond these the operator in the file
            leaves some as they were; here they are 0.

        Raises
        ------
        ArgumentError, ArgumentTypeError
            If the network is not quantized or does not come from a TFLite file, or `x` is not of its shape and type.
        """
        executable = self._integer_executable("invoke")
        scores, codes = executable.invoke(x, (BOX_ENCODINGS,))
        assert self.quantization is not None
        assert self.quantization.interface is not None
        values = self.quantization.values
        steps = [step for step in self.quantization.interface.steps if isinstance(step, (Logistic, Softmax))]
        meaning = steps[-1].output if steps else values[CLASS_LOGITS]
        real = quantized.dequantize(scores, meaning), quantized.dequantize(codes, values[BOX_ENCODINGS])
        size, ssd = (int(x.shape[1]), int(x.shape[2])), self.config.ssd
        rules = tflite_rules(ssd.nms, ssd.box_scales)
        found = [self._in_slots(*one, self.anchors(*size), rules) for one in zip(*real)]
        return tuple(np.stack(column) for column in zip(*found))

    def _in_slots(self, scores: Array, codes: Array, anchors: Array, rules: TfliteRules) -> tuple[Array, ...]:
        classes = scores.shape[1] - int(self.config.ssd.background)
        found = tflite_detection_postprocess(codes, scores, anchors.astype(np.float32), classes, rules)
        slots, count = rules.max_detections * rules.max_classes_per_detection, len(found.scores)
        boxes, columns = np.zeros((slots, 4), np.float32), np.zeros((2, slots), np.float32)
        boxes[:count], columns[0, :count], columns[1, :count] = found.boxes, found.classes, found.scores
        boxes_count = np.array(count / rules.max_classes_per_detection, np.float32)
        return boxes, columns[0], columns[1], boxes_count

    def choose(self, logits: Array, codes: Array, size: Pair, rules: NonMaxSuppression | None = None) -> RawDetections:
        """Choose detections from the network's outputs for one image.

        Parameters
        ----------
        logits : Array [shape=(anchors, classes)]
            The endpoint ``class_logits``.
        codes : Array [shape=(anchors, 4)]
            The endpoint ``box_encodings``.
        size : (height, width)
            Of the network's input.
        rules : NonMaxSuppression, optional
            ``config.ssd.nms`` if not given.

        Returns
        -------
        RawDetections
            Boxes in parts of the input's sides; of the same classes, in the same order and number as TensorFlow's or
            TensorFlow Lite's, whichever `rules` name.
        """
        ssd = self.config.ssd
        rules = ssd.nms if rules is None else rules
        anchors = self.anchors(*size)
        if rules.rule == "tflite":
            scores = class_scores(logits, ssd.score_converter, ssd.background)
            return tflite_detection_postprocess(
                codes, scores, anchors, scores.shape[1], tflite_rules(rules, ssd.box_scales)
            )
        return detections_of(
            logits, codes, anchors, detection_rules(rules), ssd.score_converter, ssd.background, ssd.box_scales
        )

    def _rules(
        self, threshold: float, max_detections: int, nms: Suppression | None, iou: float | None
    ) -> NonMaxSuppression:
        check_count("max_detections", max_detections)
        if nms is not None and nms not in SUPPRESSIONS:
            raise ArgumentError(f"nms (={nms!r}) must be one of {', '.join(SUPPRESSIONS)}")
        own = self.config.ssd.nms
        return replace(
            own,
            score_threshold=check_share("threshold", threshold),
            iou_threshold=own.iou_threshold if iou is None else check_share("iou", iou),
            suppression=own.suppression if nms is None else nms,
            max_detections=max_detections,
            classes_per_detection=1,
        )

    def carried_back(self, found: RawDetections, seen: Seen) -> Detections:
        """Detections on the network's input as those of the photo."""
        placement = seen.placement
        height, width = placement.photo
        size, scale, offset = (np.tile(pair, 2) for pair in (placement.size, placement.scale, placement.offset))
        boxes = (found.boxes.astype(np.float64) * size - offset) / scale
        boxes = np.clip(boxes, 0, [height, width, height, width])[:, [1, 0, 3, 2]]
        shown = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(axis=1)
        columns = found.classes[shown] + int(self.config.ssd.background)
        labels = tuple(self.labels[column] for column in columns)
        return Detections(
            boxes[shown].astype(np.float32),
            found.classes[shown] + 1,
            labels,
            found.scores[shown],
            placement.photo,
            seen.source,
            image=seen.image,
        )


class Seen(NamedTuple):
    """What a result needs to know of its photo: not the pixels, where a file has them."""

    placement: Placement
    source: str | None
    image: Pixels | Callable[[], Pixels]


def _reader(image: Any, photo: Photo, processor: MobileNetV2ImageProcessor) -> Pixels | Callable[[], Pixels]:
    """What reads a photo again, for a file or the bytes of one; otherwise the photo."""
    if not isinstance(image, (str, bytes, os.PathLike)):
        return photo.rgb()
    return partial(read_photo, image, processor.exif_orientation, processor.do_convert_rgb)


def read_photo(image: ImageSource, exif_orientation: bool, convert_rgb: bool) -> Pixels:
    """A photo as 8-bit RGB."""
    return as_rgb(load_image(image, exif_orientation=exif_orientation, convert_rgb=convert_rgb))


def detection_rules(nms: NonMaxSuppression) -> DetectionRules:
    """The options of a configuration as `npmnv2.kernels.detections_of` takes them."""
    return DetectionRules(
        score_threshold=nms.score_threshold,
        iou_threshold=nms.iou_threshold,
        agnostic=nms.suppression == "agnostic",
        max_per_class=nms.max_per_class,
        max_total=nms.max_detections,
        clipping=nms.clipping,
    )


def tflite_rules(nms: NonMaxSuppression, scales: tuple[float, ...]) -> TfliteRules:
    """The options of a configuration as `npmnv2.kernels.tflite_detection_postprocess` takes them."""
    return TfliteRules(
        max_detections=nms.max_detections,
        max_classes_per_detection=nms.classes_per_detection,
        detections_per_class=nms.max_per_class,
        use_regular_nms=nms.suppression == "per_class",
        nms_score_threshold=nms.score_threshold,
        nms_iou_threshold=nms.iou_threshold,
        scales=scales,
    )
