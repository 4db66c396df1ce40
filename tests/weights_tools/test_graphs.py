"""A network as writers of graphs take it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from npmnv2.weights_tools.graphs import entry_of, input_size, network_of
from quantized_networks import quantized_checkpoint
from weight_files import folded, random_checkpoint

from npmnv2 import WeightsError
from npmnv2.images.processor import MobileNetV2ImageProcessor
from npmnv2.network.layers import Conv, Depthwise


@pytest.mark.parametrize(
    ("task", "outputs"),
    [
        ("classification", ("predictions",)),
        ("segmentation", ("logits_semantic",)),
        ("features", ("global_average_pooling2d",)),
    ],
)
def test_weights_are_folded_and_in_the_layouts_of_files(task, outputs) -> None:
    checkpoint = random_checkpoint(task)
    network = network_of(checkpoint)
    assert network.outputs == outputs
    expected = folded(checkpoint).weights
    for part in network.parts:
        if f"{part.name}/kernel" in expected:
            kernel, bias = network.kernel_and_bias(part)
            np.testing.assert_array_equal(kernel, expected[f"{part.name}/kernel"])
            np.testing.assert_array_equal(bias, expected[f"{part.name}/bias"])


@pytest.mark.parametrize(
    ("preprocessing", "expected"),
    [
        ({}, (224, 224)),
        ({"preset": "slim", "size": 96}, (96, 96)),
        ({"preset": "keras", "size": [96, 160]}, (96, 160)),
        ({"preset": "deeplab", "size": 257}, (257, 257)),
        ({"preset": "raw"}, (224, 224)),
        (MobileNetV2ImageProcessor(crop_size={"height": 65, "width": 97}).to_dict(), (65, 97)),
        (MobileNetV2ImageProcessor(do_center_crop=False).to_dict(), (224, 224)),
    ],
    ids=str,
)
def test_the_size_is_what_the_preprocessing_makes(preprocessing, expected) -> None:
    assert input_size(replace(random_checkpoint(), preprocessing=preprocessing)) == expected
    assert network_of(replace(random_checkpoint(), preprocessing=preprocessing)).shapes["image"] == (*expected, 3)


def test_quantized_networks_are_refused() -> None:
    with pytest.raises(WeightsError, match="real numbers"):
        network_of(quantized_checkpoint("int8"))


@pytest.mark.parametrize(("what", "said"), [("gelu", "gelu"), (Depthwise, "Depthwise"), (np.tanh, "tanh"), ([], "[]")])
def test_what_a_format_cannot_say_is_named_with_its_layer(what, said) -> None:
    part = network_of(random_checkpoint()).parts[0]
    with pytest.raises(WeightsError) as error:
        entry_of({Conv: 1, "relu": 2}, what, part, "ONNX")
    assert (
        str(error.value)
        == f"Conv1 has {said}, which a file for ONNX cannot hold: it takes Conv, relu; write native .h5 instead"
    )
    assert entry_of({Conv: 1, "relu": 2}, "relu", part, "ONNX") == 2
