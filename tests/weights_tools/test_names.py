"""Names of the same variable in Keras, TF-slim, transformers and torchvision."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from npmnv2.weights_tools import endpoint_of, names

ROWS = [
    # canonical, TF-slim, transformers, torchvision
    (
        "Conv1/kernel",
        "MobilenetV2/Conv/weights",
        "mobilenet_v2.conv_stem.first_conv.convolution.weight",
        "features.0.0.weight",
    ),
    (
        "bn_Conv1/moving_variance",
        "MobilenetV2/Conv/BatchNorm/moving_variance",
        "mobilenet_v2.conv_stem.first_conv.normalization.running_var",
        "features.0.1.running_var",
    ),
    (
        "expanded_conv_depthwise/kernel",
        "MobilenetV2/expanded_conv/depthwise/depthwise_weights",
        "mobilenet_v2.conv_stem.conv_3x3.convolution.weight",
        "features.1.conv.0.0.weight",
    ),
    (
        "expanded_conv_project_BN/gamma",
        "MobilenetV2/expanded_conv/project/BatchNorm/gamma",
        "mobilenet_v2.conv_stem.reduce_1x1.normalization.weight",
        "features.1.conv.2.weight",
    ),
    (
        "block_1_expand_BN/beta",
        "MobilenetV2/expanded_conv_1/expand/BatchNorm/beta",
        "mobilenet_v2.layer.0.expand_1x1.normalization.bias",
        "features.2.conv.0.1.bias",
    ),
    (
        "block_16_depthwise/kernel",
        "MobilenetV2/expanded_conv_16/depthwise/depthwise_weights",
        "mobilenet_v2.layer.15.conv_3x3.convolution.weight",
        "features.17.conv.1.0.weight",
    ),
    (
        "block_16_project_BN/moving_mean",
        "MobilenetV2/expanded_conv_16/project/BatchNorm/moving_mean",
        "mobilenet_v2.layer.15.reduce_1x1.normalization.running_mean",
        "features.17.conv.3.running_mean",
    ),
    (
        "Conv_1_bn/gamma",
        "MobilenetV2/Conv_1/BatchNorm/gamma",
        "mobilenet_v2.conv_1x1.normalization.weight",
        "features.18.1.weight",
    ),
    (
        "predictions/bias",
        "MobilenetV2/Logits/Conv2d_1c_1x1/biases",
        "classifier.bias",
        "classifier.1.bias",
    ),
    (
        "image_pooling_BN/beta",
        "image_pooling/BatchNorm/beta",
        "segmentation_head.conv_pool.normalization.bias",
        "",
    ),
    (
        "logits_semantic/kernel",
        "logits/semantic/weights",
        "segmentation_head.classifier.convolution.weight",
        "",
    ),
    ("decoder_conv1_pointwise/kernel", "decoder/decoder_conv1_pointwise/weights", "", ""),
    ("decoder_feature_projection0/kernel", "decoder/feature_projection0/weights", "", ""),
    ("aspp2_depthwise_BN/gamma", "aspp2_depthwise/BatchNorm/gamma", "", ""),
    (
        "expanded_conv_expand/kernel",
        "MobilenetV2/expanded_conv/expand/weights",
        "mobilenet_v2.conv_stem.expand_1x1.convolution.weight",
        "",
    ),
]
DETECTION_ROWS = [
    ("Conv1/kernel", "FeatureExtractor/MobilenetV2/Conv/weights"),
    ("block_13_expand_BN/beta", "FeatureExtractor/MobilenetV2/expanded_conv_13/expand/BatchNorm/beta"),
    (
        "layer_19_2_Conv2d_2_3x3_s2_512_depthwise/kernel",
        "FeatureExtractor/MobilenetV2/layer_19_2_Conv2d_2_3x3_s2_512_depthwise/depthwise_weights",
    ),
    (
        "layer_19_1_Conv2d_5_1x1_64_BN/gamma",
        "FeatureExtractor/MobilenetV2/layer_19_1_Conv2d_5_1x1_64/BatchNorm/gamma",
    ),
    ("BoxPredictor_0_ClassPredictor/bias", "BoxPredictor_0/ClassPredictor/biases"),
    (
        "BoxPredictor_5_BoxEncodingPredictor_depthwise_BN/moving_mean",
        "BoxPredictor_5/BoxEncodingPredictor_depthwise/BatchNorm/moving_mean",
    ),
]


@pytest.mark.parametrize(("canonical", "slim", "transformers", "torchvision"), ROWS, ids=lambda row: str(row)[:30])
def test_names(canonical, slim, transformers, torchvision) -> None:
    layer, role = names.split(canonical)
    assert names.canonical(layer, role) == canonical
    assert names.slim_name(layer, role) == slim
    assert names.canonical_from_slim(slim) == canonical
    assert names.torchvision_name(layer, role) == torchvision
    assert names.transformers_name(layer, role) == transformers
    if transformers:
        assert names.canonical_from_transformers(transformers) == canonical
        assert names.canonical_from_transformers(transformers.removeprefix("mobilenet_v2.")) == canonical
    if torchvision:
        assert names.canonical_from_torchvision(torchvision) == canonical


@pytest.mark.parametrize(("canonical", "slim"), DETECTION_ROWS, ids=lambda row: str(row)[:30])
def test_detection_names(canonical, slim) -> None:
    assert names.slim_name(*names.split(canonical), detection=True) == slim
    assert names.canonical_from_slim(slim) == canonical


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("Conv1/kernel:0", "Conv1/kernel"),
        ("mobilenetv2_1.00_224/bn_Conv1/gamma:0", "bn_Conv1/gamma"),
        ("block_3_depthwise/depthwise_kernel", "block_3_depthwise/kernel"),
        ("Logits/bias", "predictions/bias"),
        ("dense_7/kernel", None),
        ("block_17_expand/kernel", None),
    ],
)
def test_keras_names(name, canonical) -> None:
    assert names.canonical_from_keras(name) == canonical


@pytest.mark.parametrize(
    "name",
    [
        "global_step",
        "MobilenetV2/Conv/weights/RMSProp",
        "MobilenetV1/Conv2d_0/weights",
        "",
        "/",
        "features.19.0.weight",
    ],
)
def test_names_that_are_no_variables(name) -> None:
    assert names.canonical_from_slim(name) is None
    assert names.canonical_from_transformers(name) is None
    assert names.canonical_from_torchvision(name) is None


def test_all_names_of_a_notation_differ() -> None:
    for notation in (names.slim_name, names.transformers_name, names.torchvision_name):
        made = [notation(layer, role) for layer in names.LAYERS for role in names.ROLES]
        # The empty name is that of everything that a notation does not have.
        known = [name for name in made if name]
        assert len(known) == len(set(known))


def test_layouts() -> None:
    kernel = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    torch = names.to_torch_layout("Conv1/kernel", kernel)
    assert torch.shape == (5, 4, 2, 3)
    assert torch[4, 3, 1, 2] == kernel[1, 2, 3, 4]
    assert np.array_equal(names.from_torch_layout("Conv1/kernel", torch), kernel)
    depthwise = kernel.reshape(2, 3, 20, 1)
    torch = names.to_torch_layout("expanded_conv_depthwise/kernel", depthwise)
    assert torch.shape == (20, 1, 2, 3)
    assert torch[7, 0, 1, 2] == depthwise[1, 2, 7, 0]
    assert np.array_equal(names.from_torch_layout("expanded_conv_depthwise/kernel", torch), depthwise)
    dense = kernel.reshape(6, 20)
    assert np.array_equal(names.to_torch_layout("predictions/kernel", dense), dense.T)
    assert names.to_slim_layout("predictions/kernel", dense).shape == (1, 1, 6, 20)
    assert np.array_equal(names.from_slim_layout("predictions/kernel", dense[None, None]), dense)


def test_every_row_of_the_checked_table(shared_data: Path) -> None:
    with (shared_data.parent / "facts" / "name_map.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(rows) == 262
    for row in rows:
        canonical = row["keras_h5"].split(" (")[0].replace("depthwise_kernel(K2)|kernel(K3)", "kernel")
        layer, role = names.split(canonical)
        assert names.slim_name(layer, role) == row["tf_slim"]
        assert names.transformers_name(layer, role) == row["hf"]
        assert names.torchvision_name(layer, role) == row["torchvision"]


@pytest.mark.parametrize(
    ("file", "variables"),
    [("ssdlite_mobilenet_v2_coco_2018_05_09", 404), ("ssd_mobilenet_v2_coco_2018_03_29", 344)],
)
def test_every_variable_of_the_published_detectors(shared_data: Path, file, variables) -> None:
    listed = (shared_data.parent / "facts" / "dumps" / f"{file}.vars.txt").read_text().splitlines()
    found = {names.canonical_from_slim(line.split(" [")[0]) for line in listed} - {None}
    assert len(found) == variables


@pytest.mark.parametrize(
    ("name", "endpoint"),
    [
        ("bn_Conv1", "Conv1"),
        ("out_relu", "Conv_1"),
        ("block_3_project_BN", "block_3_project"),
        ("block_2_add", "block_2"),
        ("MobilenetV2/expanded_conv_2/add", "block_2"),
        ("MobilenetV2/expanded_conv/depthwise/Relu6:0", "expanded_conv_depthwise"),
        ("FeatureExtractor/MobilenetV2/expanded_conv_13/expand/Relu6", "block_13_expand"),
        ("MobilenetV2/Logits/Conv2d_1c_1x1/BiasAdd", "predictions"),
        ("mobilenetv2_1.00_224/block_1_expand_1/convolution", "block_1_expand"),
        ("/mobilenet_v2/layer.1/expand_1x1/activation/Clip_output_0", "block_2_expand"),
        ("/layer.1/Add_output_0", "block_2"),
        ("mobilenet_v2.conv_stem", "expanded_conv"),
        ("features.2.conv.0", "block_1_expand"),
        ("features.2.conv.3", "block_1_project"),
        ("features.18", "Conv_1"),
        ("classifier.1", "predictions"),
        ("image_pooling/Relu", "image_pooling"),
        ("avg_pool", "global_average_pooling2d"),
        (
            "FeatureExtractor/MobilenetV2/layer_19_1_Conv2d_2_1x1_256/Relu6",
            "layer_19_1_Conv2d_2_1x1_256",
        ),
        ("BoxPredictor_0/ClassPredictor_depthwise/Relu6", "BoxPredictor_0_ClassPredictor_depthwise"),
        ("mobilenet_v2", None),
        ("tensor_17", None),
    ],
)
def test_values_by_name(name, endpoint) -> None:
    assert endpoint_of(name) == endpoint
