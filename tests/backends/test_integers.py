"""Quantized networks: whole files to the last bit of LiteRT's results, and small ones part by part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from quantized_networks import integer_image, quantized_checkpoint
from tflite_ops import ARITHMETICS, interpreter

import npmnv2
from npmnv2.backends.integers import FakeQuantExecutable, IntegerExecutable, QuantizedBackend
from npmnv2.errors import ArgumentError, ArgumentTypeError
from npmnv2.kernels import quantized
from npmnv2.network.quantization import value_parts
from npmnv2.weights.assemble import plan_for

CLASSIFIERS = (
    "classification/mobilenet_v2_1.0_224_quant.tflite",
    "classification/tf2_mobilenet_v2_1.0_224_ptq.tflite",
)
DEEPLAB = "segmentation/deeplabv3_mnv2_pascal_quant.tflite"
PHOTOS = ("cat.bmp", "parrot.jpg", "grace_hopper.bmp", "sunflower.bmp", "dog_segmentation.bmp", "cats_and_dogs.jpg",
          "coco_000000039769.png", "bird_segmentation.bmp", "segmentation_input_rotation0.jpg")  # fmt: skip


def photo(shared_data: Path, name: str, size: int) -> np.ndarray:
    with Image.open(shared_data / "photos" / name) as image:
        return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))[None]


def assert_invokes_as_litert(path: Path, arithmetic: str, inputs) -> None:
    model, judge = npmnv2.load(path, arithmetic=arithmetic), interpreter(path, arithmetic)
    for x in inputs:
        judge.set_tensor(judge.get_input_details()[0]["index"], x)
        judge.invoke()
        expected = judge.get_tensor(judge.get_output_details()[0]["index"])
        result = model.invoke(x)
        assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
        assert np.count_nonzero(result != expected) == 0


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("file", CLASSIFIERS)
def test_classifiers_are_litert_to_the_last_bit(shared_data: Path, file, arithmetic) -> None:
    assert_invokes_as_litert(shared_data / "weights" / file, arithmetic, [photo(shared_data, "cat.bmp", 224)])


@pytest.mark.slow
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("file", CLASSIFIERS)
def test_classifiers_on_all_photos_and_noise(shared_data: Path, file, arithmetic) -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (1, 224, 224, 3), dtype=np.uint8) for _ in range(40)]
    noise += [(rng.integers(0, 2, (1, 224, 224, 3)) * 255).astype(np.uint8) for _ in range(5)]
    flat = [np.full((1, 224, 224, 3), level, np.uint8) for level in (0, 127, 128, 255)]
    photos = [photo(shared_data, name, 224) for name in PHOTOS]
    assert_invokes_as_litert(shared_data / "weights" / file, arithmetic, [*photos, *noise, *flat])


@pytest.mark.slow
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_deeplab_on_photos_and_noise(shared_data: Path, arithmetic) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1, 513, 513, 3), dtype=np.uint8)
    photos = [photo(shared_data, name, 513) for name in PHOTOS]
    assert_invokes_as_litert(shared_data / "weights" / DEEPLAB, arithmetic, [*photos, noise])


# --- small networks --------------------------------------------------------------------------------------------------


def compiled(checkpoint, arithmetic):
    plan = plan_for(checkpoint.config, checkpoint.weights)
    return QuantizedBackend(checkpoint.quantization, arithmetic).compile(plan, checkpoint.weights)


@pytest.fixture(scope="module", params=["uint8", "int8"])
def checkpoint(request):
    return quantized_checkpoint(request.param)


@pytest.fixture(scope="module")
def image(checkpoint):
    q = checkpoint.quantization.values["image"]
    return quantized.dequantize(integer_image(q, (2, 64, 64, 3)), q)


def test_fake_quantization_stays_within_few_steps_of_integers(checkpoint, image) -> None:
    integers, floats = compiled(checkpoint, "xnnpack"), compiled(checkpoint, "fakequant")
    assert isinstance(floats, FakeQuantExecutable)
    names = [part.name for part in value_parts(integers.plan)]
    exact, simulated = integers(image, names), floats(image, names)
    for name in names:
        step = checkpoint.quantization.values[name].scale[0]
        assert exact[name].dtype == simulated[name].dtype == np.float32
        # The roundings differ in ties alone, but a difference may grow along the way.
        assert np.abs(exact[name] - simulated[name]).mean() <= 0.5 * step, name
        steps = simulated[name] / np.float32(step)
        assert np.abs(steps - np.rint(steps)).max() <= 1e-3, name
    first = checkpoint.quantization.values["Conv1"].scale[0]
    assert np.abs(exact["Conv1"] - simulated["Conv1"]).max() <= 1.001 * first


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_one_image_and_several(checkpoint, image, arithmetic) -> None:
    executable = compiled(checkpoint, arithmetic)
    both = executable(image, ["predictions", "block_3"])
    for at in range(2):
        alone = executable(image[at : at + 1], ["predictions", "block_3"])
        for name, value in alone.items():
            assert np.array_equal(value[0], both[name][at])


def test_integers_and_real_numbers_agree(checkpoint, image) -> None:
    executable = compiled(checkpoint, "xnnpack")
    assert isinstance(executable, IntegerExecutable)
    names = ["Conv1", "block_2", "layer_4/expansion_output", "predictions"]
    raw, real = executable.raw(image, names), executable(image, names)
    assert list(raw) == names
    for name in names:
        q = executable.values[executable.plan.resolve(name)]
        assert raw[name].dtype == q.dtype
        assert np.array_equal(quantized.dequantize(raw[name], q), real[name])


def test_profile_names_every_node(checkpoint, image) -> None:
    executable = compiled(checkpoint, "xnnpack")
    timings = executable.profile(image, ["predictions"])
    assert [timing.name for timing in timings] == [node.name for node in executable.plan.nodes]


def test_unknown_arithmetic(checkpoint) -> None:
    with pytest.raises(ArgumentError, match=r"arithmetic \(='tflite'\) must be one of xnnpack, reference, fakequant"):
        QuantizedBackend(checkpoint.quantization, "tflite")


def test_invoke_refuses_other_inputs(checkpoint) -> None:
    executable = compiled(checkpoint, "xnnpack")
    dtype = checkpoint.quantization.values["image"].dtype
    with pytest.raises(ArgumentTypeError, match=f"x must be an array of {dtype}, as the file's input is, got float32"):
        executable.invoke(np.zeros((1, 64, 64, 3), np.float32))
    with pytest.raises(ArgumentError, match=r"x must have the file's shape \(N, 64, 64, 3\), got \(1, 63, 64, 3\)"):
        executable.invoke(np.zeros((1, 63, 64, 3), dtype))
