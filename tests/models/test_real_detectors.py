"""Detectors against TensorFlow: real networks on real photos, and files that TensorFlow writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from engines import BACKENDS
from PIL import Image
from tensorflow_graphs import tensorflow_graph, tfjs_graph_def
from weight_files import assert_same_weights, random_checkpoint

from npmnv2.backends.selection import get_backend
from npmnv2.kernels import resize_bilinear, ssd_anchors
from npmnv2.network.detection import ExplicitAnchors, NonMaxSuppression, SSDConfig
from npmnv2.network.ssd import BOX_ENCODINGS, CLASS_LOGITS, map_sizes
from npmnv2.weights.assemble import plan_for
from npmnv2.weights.checkpoint import Checkpoint, fold_batch_norms
from npmnv2.weights_tools import read, write_native

tf = pytest.importorskip("tensorflow")
tf1 = tf.compat.v1

HEADS = (CLASS_LOGITS, BOX_ENCODINGS)
PHOTOS = (
    "cat.bmp", "grace_hopper.bmp", "bird_segmentation.bmp", "cats_and_dogs.jpg", "coco_000000039769.png",
    "dog_segmentation.bmp", "parrot.jpg", "segmentation_input_rotation0.jpg", "sunflower.bmp",
)  # fmt: skip


def executables(checkpoint: Checkpoint):
    """The network on every backend."""
    plan = plan_for(checkpoint.config, checkpoint.weights)
    weights = fold_batch_norms(plan, checkpoint.weights)
    return {name: get_backend(name, np.dtype("float32")).compile(plan, weights, 2) for name in BACKENDS}


def photo_of(path: Path):
    return np.asarray(Image.open(path).convert("RGB"))


def assert_close(found, expected, where) -> None:
    """Within 1e-4 of the largest: TensorFlow folds nothing, and adds in a different order."""
    assert found.shape == expected.shape
    assert abs(found - expected).max() <= 1e-4 * abs(expected).max(), where


@pytest.mark.parametrize(
    "photos", [PHOTOS[:2], pytest.param(PHOTOS[2:], marks=pytest.mark.slow)], ids=["two photos", "all others"]
)
def test_coco_network(shared_data: Path, photos) -> None:
    folder = shared_data / "weights" / "detection" / "coco_ssdlite_mobilenet_v2_tfjs"
    networks = executables(read(folder))
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(tfjs_graph_def(folder), name="")
    outputs = ["concat_1:0", "Squeeze:0", "Postprocessor/Slice:0", "Preprocessor/sub:0"]
    with tf1.Session(graph=graph) as session:
        for name in photos:
            pixels = photo_of(shared_data / "photos" / name)[None]
            *heads, scores, prepared = session.run(outputs, {"image_tensor:0": pixels})
            resized = resize_bilinear(pixels.astype(np.float32), (300, 300), "tf1")
            x = resized * np.float32(0.007843138) - np.float32(1)
            np.testing.assert_array_equal(x, prepared)
            for backend, network in networks.items():
                found = network(x, HEADS)
                for output, expected in zip(HEADS, heads):
                    assert_close(found[output], expected, (name, backend, output))
                sigmoid = 1 / (1 + np.exp(-found[CLASS_LOGITS][..., 1:]))
                assert abs(sigmoid - scores).max() <= 1e-4 * scores.max(), (name, backend)


def test_coco_settings(shared_data: Path) -> None:
    """What the model leaves out has its default, and its list of anchors is the formula's."""
    found = read(shared_data / "weights" / "detection" / "coco_ssdlite_mobilenet_v2_tfjs")
    assert (found.task, found.config.ssd, found.config.classes) == ("detection", SSDConfig(), 91)
    assert (found.labels[0], found.labels[1], found.labels[90]) == ("background", "person", "toothbrush")
    assert found.preprocessing == {"preset": "ssd", "size": 300}


@pytest.mark.slow
def test_deeplab_network(shared_data: Path) -> None:
    folder = shared_data / "weights" / "segmentation" / "deeplabv3_mnv2_pascal_trainval_tfjs"
    checkpoint = read(folder)
    assert (checkpoint.task, checkpoint.config.output_stride, checkpoint.labels[15]) == ("segmentation", 8, "person")
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(tfjs_graph_def(folder), name="")
    pixels = photo_of(shared_data / "photos" / "bird_segmentation.bmp")
    with tf1.Session(graph=graph) as session:
        logits, x, mask = session.run(
            ["logits/semantic/BiasAdd:0", "sub_7:0", "SemanticPredictions:0"], {"ImageTensor:0": pixels[None]}
        )
    for backend, network in executables(checkpoint).items():
        found = network(x, ["logits_semantic"])["logits_semantic"]
        assert_close(found, logits, backend)
    assert set(np.unique(mask)) == {0, 3}, "a bird"


SIBLINGS = {
    "ssdlite": SSDConfig(),
    "ssd": SSDConfig(predictor_depthwise=False),
    "pointwise": SSDConfig(extra_depthwise=False, predictor_depthwise=False, predictor_kernel=1),
}


@pytest.mark.parametrize(
    "kind", ["ssdlite", *(pytest.param(kind, marks=pytest.mark.slow) for kind in SIBLINGS if kind != "ssdlite")]
)
def test_files_that_tensorflow_writes(tmp_path: Path, kind) -> None:
    """A checkpoint, a frozen graph and a SavedModel of each kind of head: the same weights, the same results."""
    # So narrow, slim's first block has a residual.
    original = random_checkpoint("detection", num_labels=4, ssd=SIBLINGS[kind], width_rule="slim")
    size = 96
    image = np.random.default_rng(0).uniform(-1, 1, (1, size, size, 3)).astype(np.float32)
    graph, placeholder, _ = tensorflow_graph(original, size, frozen=False)
    with graph.as_default(), tf1.Session() as session:
        boxes = tf1.placeholder(tf.float32, (None, 4))
        scores = tf1.placeholder(tf.float32, (None,))
        scope = "Postprocessor/MultiClassNonMaxSuppression/non_max_suppression"
        tf1.nn.sigmoid(placeholder, name="Postprocessor/convert_scores")
        tf1.raw_ops.NonMaxSuppressionV2(
            boxes=boxes, scores=scores, max_output_size=7, iou_threshold=0.55, name=f"{scope}/NonMaxSuppressionV2"
        )
        session.run(tf1.global_variables_initializer())
        tf1.train.Saver().save(session, str(tmp_path / "model.ckpt"))
        expected = session.run([f"{output}:0" for output in HEADS], {placeholder: image})
        names = [output.name for output in graph.get_operations() if output.name in HEADS]
        frozen = tf1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), names)
    (tmp_path / "frozen.pb").write_bytes(frozen.SerializeToString())
    with tf.Graph().as_default() as graph, tf1.Session() as session:
        tf.import_graph_def(frozen, name="")
        tensors = [graph.get_tensor_by_name(f"{output}:0") for output in HEADS]
        tf1.saved_model.simple_save(
            session, str(tmp_path / "saved"), {"x": graph.get_tensor_by_name("input:0")}, dict(zip(HEADS, tensors))
        )
    for path in ("model.ckpt", "frozen.pb", "saved"):
        found = read(tmp_path / path)
        assert (found.task, found.config.classes) == ("detection", 4)
        assert found.config.ssd.replace(nms=NonMaxSuppression()) == SIBLINGS[kind]
        assert_same_weights(found.weights, original.weights)
    # Only the graph beside the checkpoint has a suppression.
    assert read(tmp_path / "model.ckpt").config.ssd.nms.iou_threshold == 0.55
    for backend, network in executables(found).items():
        values = network(image, HEADS)
        for output, heads in zip(HEADS, expected):
            assert_close(values[output], heads, (backend, output))


@pytest.mark.parametrize("kind", SIBLINGS)
def test_native_files_without_a_difference(tmp_path: Path, kind) -> None:
    original = random_checkpoint("detection", num_labels=4, ssd=SIBLINGS[kind], labels=("background", "a", "b", "c"))
    write_native(original, tmp_path / "model.h5")
    found = read(tmp_path / "model.h5")
    assert (found.task, found.config, found.labels) == ("detection", original.config, original.labels)
    assert_same_weights(found.weights, original.weights)
    write_native(found, tmp_path / "again.h5")
    again = read(tmp_path / "again.h5")
    assert again.config == found.config
    assert list(again.weights) == list(found.weights)


def test_native_files_with_listed_anchors(tmp_path: Path) -> None:
    """More numbers than an HDF5 attribute of the usual kind holds."""
    original = random_checkpoint("detection", image_size=320)
    boxes = ssd_anchors(map_sizes(original.config, 320, 320)).astype(float) + 0.001
    explicit = ExplicitAnchors(tuple(map(tuple, boxes.tolist())), original.config.ssd.anchors_per_place)
    original.config = original.config.replace(ssd=SSDConfig(anchors=explicit))
    write_native(original, tmp_path / "model.h5")
    assert read(tmp_path / "model.h5").config == original.config
