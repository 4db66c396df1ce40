"""Right and wrong uses of the package as a type checker sees them (`test_typing.py`); never run.

Wrong ones carry the error that they must give: mypy reports a comment that nothing needs.
"""

# ruff: noqa: B018

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from typing_extensions import assert_type

import npmnv2.kernels
from npmnv2 import (
    Detections,
    MobileNetV2ForImageClassification,
    MobileNetV2ForObjectDetection,
    MobileNetV2ForSemanticSegmentation,
    MobileNetV2ImageProcessor,
    MobileNetV2Model,
    Prediction,
    Segmentation,
    load,
)
from npmnv2.images.processor import ObjectDetections, SegmentationScores
from npmnv2.models.outputs import (
    BaseModelOutputWithPoolingAndNoAttention,
    HiddenStatesOutput,
    ImageClassifierOutputWithNoAttention,
    ObjectDetectionOutput,
    SemanticSegmenterOutput,
)
from npmnv2.results.detection import Detection
from npmnv2.results.prediction import Candidate

Array = NDArray[np.floating[Any]]


def loading(name: str, path: Path) -> None:
    assert_type(load("mobilenet_v2_1.0_224"), MobileNetV2ForImageClassification)
    assert_type(load("mobilenet_v2_1.0_224", source="keras", n_threads=2), MobileNetV2ForImageClassification)
    assert_type(load("mobilenet_v2_1.0_224", task="features"), MobileNetV2Model)
    assert_type(load("deeplabv3_mnv2_ade20k_train"), MobileNetV2ForSemanticSegmentation)
    assert_type(load("mobilenet_v2_0.35_96_no_top"), MobileNetV2Model)
    assert_type(load(path, task="classification"), MobileNetV2ForImageClassification)
    assert_type(load(name, task="segmentation", backend="numpy"), MobileNetV2ForSemanticSegmentation)
    assert_type(load(name, task="features"), MobileNetV2Model)
    assert_type(load(name), Any)
    assert_type(MobileNetV2Model.from_pretrained(path), MobileNetV2Model)
    assert_type(load("ssdlite_mobilenet_v2_coco"), MobileNetV2ForObjectDetection)
    assert_type(load(name, task="detection"), MobileNetV2ForObjectDetection)
    load(name, task="regression")  # type: ignore[call-overload]
    load(name, backend="cuda")  # type: ignore[call-overload]
    load(name, threads=2)  # type: ignore[call-overload]
    load(3)  # type: ignore[call-overload]


def classifying(classifier: MobileNetV2ForImageClassification, paths: list[str], photo: Image.Image) -> None:
    assert_type(classifier.predict("cat.jpg"), Prediction)
    assert_type(classifier.predict(Path("cat.jpg"), 3), Prediction)
    assert_type(classifier.predict(photo, top_k=3, transform="slim"), Prediction)
    assert_type(classifier.predict(np.zeros((64, 64, 3), np.uint8)), Prediction)
    assert_type(classifier.predict(b"JPEG"), Prediction)
    assert_type(classifier.predict(paths), list[Prediction])
    assert_type(classifier.predict([photo], errors="skip"), list[Prediction])
    assert_type(classifier.predict(paths, errors="return"), list[Prediction | Exception])
    assert_type(classifier.predict(iter(paths), batch_size=32), Iterator[Prediction])
    assert_type(classifier.predict(iter(paths), errors="return"), Iterator[Prediction | Exception])
    result = classifier.predict("cat.jpg")
    assert_type(result.top, Candidate)
    assert_type(result.top.label, str)
    assert_type(result.top.wnid, str | None)
    assert_type(result[0].score, float)
    assert_type(result.to_dict()["candidates"][0]["index"], int)
    result.topp  # type: ignore[attr-defined]
    result.top.labell  # type: ignore[attr-defined]
    result.to_dict()["candidate"]  # type: ignore[typeddict-item]
    classifier.predict(3)  # type: ignore[call-overload]
    classifier.predict(paths, k=3)  # type: ignore[call-overload]
    classifier.predict(paths, errors="ignore")  # type: ignore[call-overload]
    classifier.predict(paths, transform="torch")  # type: ignore[call-overload]


def embedding(model: MobileNetV2Model, paths: list[Path]) -> None:
    assert_type(model.features("cat.jpg"), Array)
    assert_type(model.features("cat.jpg", ["block_3"]), dict[str, Array])
    assert_type(model.features(paths), list[Array])
    assert_type(model.features(paths, endpoints=["block_3"]), list[dict[str, Array]])
    assert_type(model.features(iter(paths)), Iterator[Array])
    assert_type(model.features(iter(paths), endpoints=["block_3"]), Iterator[dict[str, Array]])
    assert_type(model.features(paths, errors="return"), list[Array | dict[str, Array] | Exception])
    assert_type(model.summary(), str)
    model.predict("cat.jpg")  # type: ignore[attr-defined]


def segmenting(segmenter: MobileNetV2ForSemanticSegmentation, paths: list[str]) -> None:
    result = segmenter.predict("photo.jpg", scales=(0.5, 1), flip=True)
    assert_type(result, Segmentation)
    assert_type(segmenter.predict(paths), list[Segmentation])
    assert_type(segmenter.predict(iter(paths)), Iterator[Segmentation])
    assert_type(segmenter.predict(paths, errors="return"), list[Segmentation | Exception])
    assert_type(result.overlay(), Image.Image)
    assert_type(result.mask("dog"), NDArray[np.bool_])
    assert_type(result.cutout("dog"), Image.Image)
    assert_type(result.legend[0].share, float)
    assert_type(result.to_dict()["legend"][0]["color"], str)
    segmenter.predict("photo.jpg", top_k=3)  # type: ignore[call-overload]


def detecting(detector: MobileNetV2ForObjectDetection, paths: list[str], photo: Image.Image) -> None:
    result = detector.predict("photo.jpg", threshold=0.3, nms="agnostic", iou=0.5, max_detections=10)
    assert_type(result, Detections)
    assert_type(detector.predict(photo), Detections)
    assert_type(detector.predict(paths), list[Detections])
    assert_type(detector.predict(iter(paths), errors="skip"), Iterator[Detections])
    assert_type(detector.predict(paths, errors="return"), list[Detections | Exception])
    assert_type(result[0], Detection)
    assert_type(result[1:], tuple[Detection, ...])
    assert_type(result[0].box, tuple[float, float, float, float])
    assert_type([detection.label for detection in result], list[str])
    assert_type(result.overlay(), Image.Image)
    assert_type(result.crop(0, margin=0.1), Image.Image)
    assert_type(result.to_dict()["detections"][0]["box"], list[float])
    assert_type(result.to_coco(1)[0]["category_id"], int)
    detector.predict("photo.jpg", nms="none")  # type: ignore[call-overload]
    detector.predict("photo.jpg", top_k=3)  # type: ignore[call-overload]
    result[0].lable  # type: ignore[attr-defined]


def as_in_transformers(
    backbone: MobileNetV2Model,
    classifier: MobileNetV2ForImageClassification,
    detector: MobileNetV2ForObjectDetection,
    segmenter: MobileNetV2ForSemanticSegmentation,
    processor: MobileNetV2ImageProcessor,
) -> None:
    inputs = processor("cat.jpg", return_tensors="np")
    assert_type(inputs.pixel_values, NDArray[Any])
    assert_type(processor("cat.jpg").pixel_values, list[NDArray[Any]])
    inputs.pixelvalues  # type: ignore[attr-defined]
    x = inputs.pixel_values
    assert_type(classifier(x), ImageClassifierOutputWithNoAttention)
    assert_type(classifier(x).logits, Array)
    classifier(**inputs)
    assert_type(classifier(x, labels=[1]).loss, float | None)
    assert_type(classifier(x, output_hidden_states=True).hidden_states, tuple[Array, ...] | None)
    assert_type(classifier(x, output_hidden_states=[3, "block_5"]), HiddenStatesOutput)
    assert_type(classifier(x, return_dict=False), tuple[Any, ...])
    assert_type(classifier(x, True, None, True), ImageClassifierOutputWithNoAttention)
    assert_type(backbone(x), BaseModelOutputWithPoolingAndNoAttention)
    assert_type(backbone(x, return_dict=False), tuple[Any, ...])
    assert_type(backbone(x).pooler_output, Array)
    outputs = segmenter(x)
    assert_type(outputs, SemanticSegmenterOutput)
    assert_type(processor.post_process_semantic_segmentation(outputs), list[NDArray[np.int64]])
    assert_type(
        processor.post_process_semantic_segmentation(outputs, return_segmentation_scores=True), list[SegmentationScores]
    )
    assert_type(detector(x), ObjectDetectionOutput)
    assert_type(detector(x, return_dict=False), tuple[Any, ...])
    assert_type(detector(x, output_hidden_states=["block_5"]), HiddenStatesOutput)
    assert_type(processor.post_process_object_detection(detector(x), 0.3, [(480, 640)]), list[ObjectDetections])
    assert_type(processor.post_process_object_detection(detector(x))[0]["boxes"], Array)
    classifier(x).logit  # type: ignore[attr-defined]
    classifier(x, return_dict=False).logits  # type: ignore[attr-defined]
    classifier(x, output_hidden_states=["block_5"]).logits  # type: ignore[attr-defined]
    classifier(x, data_format="NHWC")  # type: ignore[call-overload]


def kernels() -> None:
    x = np.zeros((1, 4, 4, 8), np.float32)
    assert_type(npmnv2.kernels.global_average_pool(x), Array)
    npmnv2.kernels.no_such_operation  # type: ignore[attr-defined]
