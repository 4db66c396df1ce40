"""Whole post-processing: plain loops for TensorFlow's graphs, LiteRT's own operator for TensorFlow Lite's."""

from __future__ import annotations

import math
from pathlib import Path

import naive
import numpy as np
import pytest
import tflite_ops
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from strategies import box_arrays, score_arrays, seeds

from npmnv2.kernels import (
    CLIPPINGS,
    DetectionRules,
    TfliteRules,
    class_scores,
    decode_boxes,
    detections_of,
    find_detections,
    scores_above,
    softmax,
    tflite_detection_postprocess,
)

TIES = np.array([-9, -1, 0, 0.5, 1, 3], np.float32)


def assert_same(detections, reference) -> None:
    boxes, classes, scores = reference
    assert detections.classes.tolist() == list(classes)
    np.testing.assert_array_equal(detections.scores, np.array(scores, np.float32))
    np.testing.assert_array_equal(detections.boxes, np.array(boxes, np.float32).reshape(-1, 4))


# --- TensorFlow's graphs ----------------------------------------------------------------------------------------------


@st.composite
def rules(draw):
    return DetectionRules(
        score_threshold=draw(st.sampled_from([1e-8, 0.25, 0.3, 0.75])),
        iou_threshold=draw(st.sampled_from([0.25, 0.5, 0.6])),
        agnostic=draw(st.booleans()),
        max_per_class=draw(st.integers(1, 6)),
        max_total=draw(st.integers(1, 20)),
        clipping=draw(st.sampled_from(CLIPPINGS)),
    )


@settings(max_examples=200)
@given(st.data(), rules())
def test_detections_are_those_of_plain_loops(data: st.DataObject, chosen: DetectionRules) -> None:
    boxes = np.sort(data.draw(box_arrays()).reshape(-1, 2, 2), axis=1).reshape(-1, 4)
    scores = data.draw(score_arrays(len(boxes), 3))
    found = scores_above(scores, "identity", False, chosen.score_threshold)
    detections = find_detections(boxes[found.anchors], found, chosen)
    scores = np.where(np.isnan(scores), -np.inf, scores)
    assert_same(detections, naive.detections(boxes, scores, chosen))


def test_the_order_of_clipping_and_suppressing_matters() -> None:
    """Beyond the input two boxes differ, on it they are one; a box outside takes part before it is dropped."""
    boxes = np.array([[0.5, 0, 3, 1], [0.5, 0, 1, 1], [-2, 0, -1, 1], [-2, 0, -1.1, 1]], np.float32)
    scores = np.array([[0.9], [0.8], [0.7], [0.6]], np.float32)
    found = scores_above(scores, "identity", False, 0.1)
    late, early = (find_detections(boxes, found, DetectionRules(clipping=when)) for when in ("last", "first"))
    np.testing.assert_array_equal(late.scores, scores[:2, 0])
    np.testing.assert_array_equal(early.scores, scores[:1, 0])
    np.testing.assert_array_equal(late.boxes, [[0.5, 0, 1, 1]] * 2)


def test_boxes_outside_count_toward_their_class_and_not_toward_the_whole() -> None:
    boxes = np.array([[-2, 0, -1, 1], [0, 0, 1, 1], [0, 0, 0.1, 0.1]], np.float32)
    found = scores_above(np.array([[0.9], [0.8], [0.7]], np.float32), "identity", False, 0.1)
    assert len(find_detections(boxes, found, DetectionRules(max_total=2)).scores) == 2
    assert len(find_detections(boxes, found, DetectionRules(max_per_class=2)).scores) == 1


def test_limits_per_class_are_kept() -> None:
    boxes = np.array([[i / 10, 0, i / 10 + 0.05, 1] for i in range(8)], np.float32)
    scores = np.zeros((8, 2), np.float32)
    scores[:6, 0], scores[6:, 1] = 0.9, 0.5
    found = scores_above(scores, "identity", False, 0.1)
    detections = find_detections(boxes, found, DetectionRules(max_per_class=3))
    assert detections.classes.tolist() == [0, 0, 0, 1, 1]


def test_soft_suppression_lowers_scores_per_class() -> None:
    tf = pytest.importorskip("tensorflow")
    rng = np.random.default_rng(0)
    boxes = np.sort(rng.uniform(0, 1, (30, 2, 2)), axis=1).reshape(30, 4).astype(np.float32)
    scores = rng.uniform(0, 1, (30, 3)).astype(np.float32)
    chosen = DetectionRules(score_threshold=0.2, soft_sigma=0.5, max_per_class=20, max_total=25)
    found = scores_above(scores, "identity", False, chosen.score_threshold)
    detections = find_detections(boxes[found.anchors], found, chosen)
    reference = []
    for number in range(3):
        kept, values = tf.image.non_max_suppression_with_scores(
            boxes, scores[:, number], 20, 0.6, score_threshold=0.2, soft_nms_sigma=0.5
        )
        reference += [(-value, number, box) for value, box in zip(values.numpy(), boxes[kept.numpy()])]
    reference = sorted(reference, key=lambda entry: entry[:2])[:25]
    assert detections.classes.tolist() == [number for _, number, _ in reference]
    np.testing.assert_allclose(detections.scores, [-value for value, _, _ in reference], rtol=1e-6)
    np.testing.assert_array_equal(detections.boxes, [box for _, _, box in reference])


def test_soft_suppression_of_all_classes_at_once() -> None:
    """With the limit of the whole, not that of a class."""
    boxes = np.array([[0, i / 8, 1, (i + 2) / 8] for i in range(6)], np.float32)
    found = scores_above(np.linspace(0.9, 0.4, 6, dtype=np.float32)[:, None], "identity", False, 0.01)
    chosen = DetectionRules(0.01, agnostic=True, soft_sigma=0.5, max_per_class=2, max_total=5)
    detections = find_detections(boxes, found, chosen)
    assert len(detections.scores) == 5
    assert detections.scores[0] == np.float32(0.9)
    assert (detections.scores[1:] < found.scores[1:5]).all()


def test_the_best_candidates_are_not_all_where_they_give_too_few() -> None:
    """Thousands of boxes at one place, and one elsewhere whose score is the lowest."""
    logits = np.full((3000, 1), 2, np.float32)
    logits[:2999, 0] += np.arange(2999, dtype=np.float32) / 1000
    anchors = np.tile(np.array([0.5, 0.5, 0.2, 0.2], np.float32), (3000, 1))
    anchors[2999, :2] = 0.2
    logits[2999] = 1
    detections = detections_of(logits, np.zeros((3000, 4), np.float32), anchors, DetectionRules(), background=False)
    assert len(detections.scores) == 2
    np.testing.assert_allclose(detections.boxes[1], [0.1, 0.1, 0.3, 0.3], atol=1e-7)


def test_soft_suppression_looks_at_all_candidates() -> None:
    """One that is alone comes before thousands with better scores, once the best of those has lowered the others."""
    logits = 2 + np.arange(2100, dtype=np.float32)[:, None] / 10000
    logits[2099] = 0
    anchors = np.tile(np.array([0.5, 0.5, 0.2, 0.2], np.float32), (2100, 1))
    anchors[2099, :2] = 0.2
    chosen = DetectionRules(soft_sigma=0.5, max_total=2, max_per_class=2)
    detections = detections_of(logits, np.zeros((2100, 4), np.float32), anchors, chosen, background=False)
    np.testing.assert_allclose(detections.boxes[1], [0.1, 0.1, 0.3, 0.3], atol=1e-7)


# --- scores -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("function", ["sigmoid", "softmax", "identity"])
@settings(max_examples=40)
@given(seeds, st.sampled_from([0, 1e-8, 0.1, 0.3, 0.5, 0.9, 1 - 1e-6, 1.0]))
def test_what_cannot_pass_is_left_out_and_nothing_else(function, background, seed: int, threshold: float) -> None:
    logits = np.random.default_rng(seed).normal(0, 5, (40, 6)).astype(np.float32)
    scores = class_scores(logits, function, background)
    assert scores.shape == (40, 6 - background)
    found = scores_above(logits, function, background, threshold)
    anchors, classes = np.nonzero(scores > np.float32(threshold))
    assert found.anchors.tolist() == anchors.tolist()
    assert found.classes.tolist() == classes.tolist()
    np.testing.assert_allclose(found.scores, scores[anchors, classes], rtol=3e-7)


@pytest.mark.parametrize("threshold", [1e-8, 1e-3, 0.3, 0.5, 0.9, 0.999])
def test_scores_next_to_the_threshold(threshold: float) -> None:
    """Logits all around the one that is as high as the threshold."""
    middle = math.log(threshold / (1 - threshold))
    logits = np.linspace(middle - 1e-2, middle + 1e-2, 20001, dtype=np.float32)[:, None]
    found = scores_above(logits, "sigmoid", False, threshold)
    passed = np.flatnonzero(class_scores(logits, "sigmoid", False)[:, 0] > np.float32(threshold))
    assert found.anchors.tolist() == passed.tolist()
    assert 0 < len(passed) < len(logits)


def test_logistic_function_of_large_numbers() -> None:
    logits = np.array([[-1e4, -100, 0, 100, 1e4, np.inf, -np.inf, np.nan]], np.float32)
    scores = class_scores(logits, "sigmoid", False)
    np.testing.assert_array_equal(scores[0, [0, 2, 3, 4, 5, 6]], np.array([0, 0.5, 1, 1, 1, 0], np.float32))
    assert scores[0, 1] == np.float32(math.exp(-100))
    assert np.isnan(scores[0, 7])


@pytest.mark.parametrize("function", ["sigmoid", "softmax", "identity"])
@pytest.mark.parametrize("agnostic", [False, True])
def test_scores_that_are_no_numbers_are_no_detections(function, agnostic: bool) -> None:
    logits = np.full((5, 3), 0.9, np.float32)
    logits[1] = np.nan
    logits[3, 1] = np.nan
    anchors = np.array([[i / 5, 0.5, 0.1, 0.1] for i in range(5)], np.float32)
    chosen = DetectionRules(agnostic=agnostic, score_threshold=0.1)
    detections = detections_of(logits, np.zeros((5, 4), np.float32), anchors, chosen, function, background=False)
    assert np.isfinite(detections.scores).all()
    spoiled = {1} if function != "softmax" else {1, 3}
    assert len(np.unique(detections.boxes[:, 0])) == 5 - len(spoiled)


def test_boxes_that_are_no_numbers_are_no_detections() -> None:
    codes = np.zeros((4, 4), np.float32)
    codes[0, 0], codes[1, 2], codes[2, 3] = np.nan, np.inf, 1e5
    anchors = np.full((4, 4), 0.5, np.float32)
    detections = detections_of(np.full((4, 1), 2, np.float32), codes, anchors, DetectionRules(), background=False)
    np.testing.assert_array_equal(detections.boxes, [[0.25, 0.25, 0.75, 0.75]])


@given(seeds, st.booleans())
def test_a_higher_threshold_leaves_the_first_of_the_detections(seed: int, agnostic: bool) -> None:
    rng = np.random.default_rng(seed)
    logits, codes = rng.normal(0, 3, (60, 5)).astype(np.float32), rng.normal(0, 2, (60, 4)).astype(np.float32)
    anchors = rng.uniform(0.1, 0.9, (60, 4)).astype(np.float32)
    chosen = DetectionRules(agnostic=agnostic)
    many = detections_of(logits, codes, anchors, chosen)
    few = detections_of(logits, codes, anchors, chosen._replace(score_threshold=0.6))
    count = np.count_nonzero(many.scores > np.float32(0.6))
    for a, b in zip(few, many):
        np.testing.assert_array_equal(a, b[:count])


# --- TensorFlow Lite --------------------------------------------------------------------------------------------------


def tflite_options(rules: TfliteRules, num_classes: int) -> bytes:
    """The options of the operator, as the map of a FlexBuffer that files store."""
    flexbuffers = pytest.importorskip("flatbuffers.flexbuffers")
    values = rules._asdict() | {"num_classes": num_classes, "_output_quantized": False}
    values |= dict(zip(("y_scale", "x_scale", "h_scale", "w_scale"), values.pop("scales")))
    return bytes(flexbuffers.Dumps(values))


def litert_detections(codes, scores, anchors, num_classes: int, rules: TfliteRules):
    """Boxes, classes, scores of all slots, and the count that the operator gives."""
    tensors = [tflite_ops.Tensor(array.shape, "float32") for array in (codes[None], scores[None])]
    tensors += [tflite_ops.Tensor(anchors.shape, "float32", value=anchors)]
    tensors += [tflite_ops.Tensor((), "float32")] * 4
    op = tflite_ops.Op(
        "TFLite_Detection_PostProcess", (0, 1, 2), (3, 4, 5, 6), options=tflite_options(rules, num_classes)
    )
    file = tflite_ops.tflite_file(tensors, [op], (0, 1), (3, 4, 5, 6))
    boxes, classes, values, count = tflite_ops.run(file, "reference", codes[None], scores[None])
    return boxes[0], classes[0], values[0], int(count[0])


@st.composite
def tflite_rules(draw, regular: bool):
    return TfliteRules(
        max_detections=draw(st.integers(1, 12)),
        max_classes_per_detection=draw(st.integers(1, 3)),
        detections_per_class=draw(st.integers(1, 6)),
        use_regular_nms=regular,
        nms_score_threshold=draw(st.sampled_from([1e-8, 0.25, 0.6])),
        nms_iou_threshold=draw(st.sampled_from([0.25, 0.5, 0.6, 1.0])),
    )


@pytest.mark.parametrize("regular", [False, True])
@settings(max_examples=60)
@given(st.data(), seeds, st.integers(1, 30), st.booleans())
def test_selects_as_litert_does(regular: bool, data: st.DataObject, seed: int, count: int, background: bool) -> None:
    rng, rules = np.random.default_rng(seed), data.draw(tflite_rules(regular))
    classes = data.draw(st.integers(1, 5))
    codes = rng.choice(np.array([-5, 0, 0, 5], np.float32), (count, 4))
    anchors = rng.choice(np.array([0.25, 0.5], np.float32), (count, 4))
    scores = data.draw(score_arrays(count, classes + background))
    if rules.max_classes_per_detection > 1:
        # Which of equal classes of one box comes first is not defined there.
        scores = rng.permuted(np.tile(np.linspace(0, 1, classes + background, dtype=np.float32), (count, 1)), axis=1)
    boxes, numbers, values, found = litert_detections(codes, scores, anchors, classes, rules)
    ours = tflite_detection_postprocess(codes, scores, anchors, classes, rules)
    per_box = 1 if regular else min(rules.max_classes_per_detection, classes)
    assert len(ours.scores) == found * per_box
    # Where there are less classes than it may report, the operator leaves slots out between them.
    slots = np.arange(found)[:, None] * (1 if regular else rules.max_classes_per_detection) + np.arange(per_box)
    slots = slots.reshape(-1)
    assert ours.classes.tolist() == numbers[slots].tolist()
    np.testing.assert_array_equal(ours.scores, values[slots])
    np.testing.assert_array_equal(ours.boxes, boxes[slots])


@pytest.mark.parametrize("regular", [False, True])
def test_a_score_that_equals_the_threshold_counts(regular: bool) -> None:
    anchors = np.array([[0.2, 0.2, 0.1, 0.1], [0.7, 0.7, 0.1, 0.1]], np.float32)
    codes, scores = np.zeros((2, 4), np.float32), np.array([[0.25], [0.2]], np.float32)
    rules = TfliteRules(5, use_regular_nms=regular, nms_score_threshold=0.25)
    assert litert_detections(codes, scores, anchors, 1, rules)[3] == 1
    assert len(tflite_detection_postprocess(codes, scores, anchors, 1, rules).scores) == 1


@pytest.mark.parametrize("regular", [False, True])
def test_selects_as_litert_does_at_full_size(regular: bool) -> None:
    rng = np.random.default_rng(0)
    codes, anchors = rng.normal(0, 1, (1917, 4)).astype(np.float32), rng.uniform(0.1, 0.9, (1917, 4)).astype(np.float32)
    scores = rng.beta(0.3, 3, (1917, 91)).astype(np.float32)
    scores = np.round(scores, 2)
    rules = TfliteRules(100, use_regular_nms=regular, nms_score_threshold=1e-8, nms_iou_threshold=0.6)
    boxes, numbers, values, found = litert_detections(codes, scores, anchors, 90, rules)
    ours = tflite_detection_postprocess(codes, scores, anchors, 90, rules)
    assert len(ours.scores) == found
    assert ours.classes.tolist() == numbers[:found].tolist()
    np.testing.assert_array_equal(ours.scores, values[:found])
    np.testing.assert_array_equal(ours.boxes, boxes[:found])


def test_softmax_and_decoding_come_first() -> None:
    rng = np.random.default_rng(0)
    logits, codes = rng.normal(0, 3, (30, 4)).astype(np.float32), rng.normal(0, 2, (30, 4)).astype(np.float32)
    anchors = rng.uniform(0.1, 0.9, (30, 4)).astype(np.float32)
    chosen = DetectionRules(score_threshold=0.3)
    detections = detections_of(logits, codes, anchors, chosen, "softmax")
    reference = naive.detections(decode_boxes(codes, anchors), softmax(logits)[:, 1:], chosen)
    assert_same(detections, reference)


REAL = ("mobile_object_localizer_v1_1_default_1", "coco_ssd_mobilenet_v1_1.0_quant_2018_06_29")


@pytest.mark.parametrize("name", REAL)
def test_real_files_choose_the_same_detections(shared_data: Path, name: str) -> None:
    """Two published 8-bit detectors on every photo: LiteRT's raw outputs through our operator are its detections."""
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    file = shared_data / "weights" / "detection" / f"{name}.tflite"
    made = litert.Interpreter(
        model_path=str(file),
        experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    made.allocate_tensors()
    rules, classes, tensors = operator_of(file.read_bytes())
    image = made.get_input_details()[0]
    total = 0
    for photo in sorted((shared_data / "photos").iterdir()):
        pixels = Image.open(photo).convert("RGB").resize(image["shape"][2:0:-1])
        made.set_tensor(image["index"], np.asarray(pixels)[None])
        made.invoke()
        codes, scores, anchors = (real_numbers(made, index) for index in tensors)
        boxes, numbers, values, count = (made.get_tensor(d["index"])[0] for d in made.get_output_details())
        ours = tflite_detection_postprocess(codes, scores, anchors, classes, rules)
        assert len(ours.scores) == int(count), photo
        assert ours.classes.tolist() == numbers[: len(ours.scores)].tolist(), photo
        np.testing.assert_array_equal(ours.scores, values[: len(ours.scores)], photo.name)
        np.testing.assert_array_equal(ours.boxes, boxes[: len(ours.scores)], photo.name)
        total += int(count)
    assert total > 50


def operator_of(content: bytes) -> tuple[TfliteRules, int, list[int]]:
    """Options, number of classes, and the tensors of codes, scores and anchors of a file's last operator."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    flexbuffers = pytest.importorskip("flatbuffers.flexbuffers")
    graph = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0)).subgraphs[0]
    operator = graph.operators[-1]
    options = flexbuffers.Loads(bytes(operator.customOptions))
    scales = tuple(options.pop(name) for name in ("y_scale", "x_scale", "h_scale", "w_scale"))
    known = {name: value for name, value in options.items() if name in TfliteRules._fields}
    return TfliteRules(**known, scales=scales), options["num_classes"], operator.inputs.tolist()


def real_numbers(interpreter, index: int) -> np.ndarray:
    """What a quantized tensor stands for, without the axis of the batch."""
    (detail,) = (d for d in interpreter.get_tensor_details() if d["index"] == index)
    scale, zero_point = detail["quantization"]
    values = interpreter.get_tensor(index).astype(np.float32) - np.float32(zero_point)
    return (values * np.float32(scale)).reshape(-1, detail["shape"][-1])
