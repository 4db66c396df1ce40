"""Names of foreign tensors, operations and modules: by hand, and those of every maker for every layer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from npmnv2.weights_tools.names import slim_scope, torchvision_modules, transformers_module

from npmnv2.network.plan import batch_norm_name
from npmnv2.weights.names import LAYERS
from npmnv2.weights_tools import endpoint_of

BY_HAND = {
    # Keras
    "Conv1_relu/Relu6:0": "Conv1",
    "out_relu": "Conv_1",
    "block_3_expand_BN/FusedBatchNormV3": "block_3_expand",
    "block_2_add/add": "block_2",
    "model/block_5_depthwise/depthwise": "block_5_depthwise",
    "StatefulPartitionedCall/mobilenetv2_1.00_224/block_16_project_BN/FusedBatchNormV3": "block_16_project",
    "functional_1/block_1_expand_1/convolution": "block_1_expand",
    "global_average_pooling2d/Mean": "global_average_pooling2d",
    # TF-slim
    "MobilenetV2/Conv/Relu6": "Conv1",
    "import/MobilenetV2/expanded_conv_7/depthwise/Relu6": "block_7_depthwise",
    "MobilenetV2/expanded_conv/output": "expanded_conv",
    "MobilenetV2/expanded_conv_2/add": "block_2",
    "FeatureExtractor/MobilenetV2/expanded_conv_13/expand/Relu6": "block_13_expand",
    "MobilenetV2/Logits/AvgPool": "global_average_pooling2d",
    "MobilenetV2/Logits/Conv2d_1c_1x1/BiasAdd": "predictions",
    # transformers, torchvision, ONNX
    "mobilenet_v2.layer.0.expand_1x1.convolution": "block_1_expand",
    "/layer.0/conv_3x3/activation/Clip_output_0": "block_1_depthwise",
    "mobilenet_v2.conv_stem": "expanded_conv",
    "features.0.0": "Conv1",
    "features.3": "block_2",
    "classifier": "predictions",
    # what is none of ours
    "": None,
    "block_99_expand": None,
    "Shape": None,
    "xConv1": None,
}


@pytest.mark.parametrize("name", BY_HAND)
def test_names_by_hand(name: str) -> None:
    assert endpoint_of(name) == BY_HAND[name]


@pytest.mark.parametrize("layer", LAYERS)
def test_every_maker_s_name_of_every_layer(layer: str) -> None:
    names = [layer, batch_norm_name(layer), slim_scope(layer), torchvision_modules(layer)[0]]
    names += [transformers_module(layer)] if layer != "predictions" else ["classifier"]
    for name in filter(None, names):
        for written in (name, name.replace("/", "."), f"{name}:0", f"model/{name}"):
            assert endpoint_of(written) == layer, written


@given(st.sampled_from(LAYERS), st.lists(st.sampled_from(["Relu6", "x", "BiasAdd_1", "Conv2D"]), max_size=3))
def test_what_comes_after_a_scope_does_not_matter(layer: str, words: list[str]) -> None:
    assert endpoint_of("/".join([layer, *words])) == layer


@settings(max_examples=30)
@given(st.text(max_size=30))
def test_any_name_is_answered(name: str) -> None:
    found = endpoint_of(name)
    assert found is None or isinstance(found, str)


def test_layers_of_a_detector_s_head() -> None:
    name = "BoxPredictor_0/ClassPredictor_depthwise"
    found = endpoint_of(f"{name}/depthwise")
    assert found is not None
    assert found == endpoint_of(f"{name}/BatchNorm/FusedBatchNormV3")
    assert endpoint_of("BoxPredictor_99/Nothing") is None
