"""Inputs with planted faults, by hand: the image itself, and what a first layer tells of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npmnv2.images.processor import MobileNetV2ImageProcessor
from npmnv2.kernels import Geometry
from npmnv2.lab.faults import Call, Suspect
from npmnv2.lab.input_faults import as_hypotheses, candidates, explain_first_layer, explain_image, scaling, share
from npmnv2.network.layers import Conv
from npmnv2.network.plan import IMAGE, Part

PHOTO = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
X = np.random.default_rng(1).uniform(-1, 1, (1, 8, 8, 3))
RNG = np.random.default_rng(2)
FIRST = Call(
    Part("first", Conv(kernel=3, filters=4, norm=None), (IMAGE,)), (X,), RNG.normal(0, 1, (3, 3, 3, 4)),
    RNG.normal(0, 1, 4), Geometry(2, 1, ((0, 1), (0, 1))), "relu6",
)  # fmt: skip

FAULTS = {
    "channel_order": lambda x: x[..., ::-1],
    "layout": lambda x: x.transpose(0, 3, 1, 2).reshape(x.shape),
    "input_scale": lambda x: 0.5 * x + 0.5,
    "channel_order, input_scale": lambda x: 127.5 * x[..., ::-1] + 127.5,
}


def names(explanation) -> str:
    return ", ".join(fault for fault, _ in explanation.faults)


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_an_image(fault: str) -> None:
    given_x = FAULTS[fault](X)
    found = explain_image(given_x, candidates(X))
    assert found is not None
    assert names(found) == fault
    np.testing.assert_allclose(found.x, given_x, atol=1e-12 * np.abs(given_x).max())


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_that_a_first_layer_tells(fault: str) -> None:
    given_x = np.ascontiguousarray(FAULTS[fault](X)) / (20 if "127" in fault else 1)
    seen = Call(FIRST.part, (given_x,), FIRST.kernel, FIRST.bias, FIRST.geometry, "linear").value()
    suspect = Suspect(Call(FIRST.part, (X,), FIRST.kernel, FIRST.bias, FIRST.geometry, "linear"), seen)
    found = explain_first_layer(suspect, candidates(X))
    assert found is not None
    assert names(found) == fault
    assert found.error < 1e-12
    np.testing.assert_allclose(found.x, given_x, atol=1e-9 * np.abs(given_x).max())


def test_values_that_the_activation_cuts_off_are_not_fitted() -> None:
    seen = Call(FIRST.part, (0.5 * X + 0.1,), FIRST.kernel, FIRST.bias, FIRST.geometry, "relu6").value()
    assert (seen == 0).any()
    found = explain_first_layer(Suspect(FIRST, seen), candidates(X))
    assert found is not None
    assert (found.gain, found.offset) == (pytest.approx(0.5), pytest.approx(0.1))
    dark = np.zeros_like(seen)
    assert explain_first_layer(Suspect(FIRST, dark), candidates(X)) is None, "nothing is left to fit"
    assert explain_first_layer(Suspect(FIRST, None), candidates(X)) is None
    assert explain_first_layer(Suspect(FIRST, seen[:, 1:]), candidates(X)) is None


def test_what_is_as_it_should_be_needs_no_explanation() -> None:
    found = explain_image(X, iter([next(candidates(X))]))
    assert found is None
    assert explain_image(X[:, 1:], candidates(X)) is None, "of a different shape"


@pytest.mark.parametrize("preset", ["slim", "keras"])
def test_photos_prepared_in_another_way(preset) -> None:
    own = MobileNetV2ImageProcessor.preset("hf", (24, 24)).to_array([PHOTO]).astype(np.float64)
    other = MobileNetV2ImageProcessor.preset(preset, (24, 24)).to_array([PHOTO]).astype(np.float64)
    found = explain_image(other, candidates(own, PHOTO))
    assert found is not None
    ((fault, sentence),) = found.faults
    assert fault == "resize"
    assert f"prepared as by {preset}" in sentence


def test_gray_images_have_no_order_of_channels() -> None:
    tries = list(candidates(X[..., :1]))
    assert not any(fault == "channel_order" for candidate in tries for fault, _ in candidate.faults)
    wide = list(candidates(X[:, :, :5]))
    assert not any("swapped" in sentence for candidate in wide for _, sentence in candidate.faults)


@pytest.mark.parametrize(
    ("gain", "offset", "words"),
    [
        (0.5, 0.5, "0.5·x + 0.5, as of an input in 0…1 instead of −1…1"),
        (127.5, 127.5, "0…255"),
        (0.5, 0.0, "−0.5…0.5"),
        (127.5 / 128, -0.5 / 128, "(x − 128) / 128"),
        (2.0, -0.25, "2·x − 0.25"),
    ],
)
def test_a_scaling_in_words(gain: float, offset: float, words: str) -> None:
    fault, sentence = scaling(gain, offset)
    assert fault == "input_scale"
    assert words in sentence
    assert ("instead of" in sentence) == (gain != 2.0)


@given(st.floats(0.1, 10), st.floats(0.01, 3))
def test_a_share_knows_no_unit(scale: float, noise: float) -> None:
    of = scale * np.array([3.0, -4.0])
    assert share(noise * of, of) == pytest.approx(noise)
    assert share(np.array([3.0, 4.0]), np.zeros(2)) == pytest.approx(np.sqrt(12.5)), "itself where there is nothing"


def test_one_hypothesis_for_each_fault() -> None:
    found = explain_image(FAULTS["channel_order, input_scale"](X), candidates(X))
    assert found is not None
    order, scale = as_hypotheses(found, FIRST)
    assert (order.fault, scale.fault, order.layer, scale.layer) == ("channel_order", "input_scale", IMAGE, IMAGE)
    assert (order.evidence, scale.evidence["gain"]) == ({}, pytest.approx(127.5))
    assert order.call.inputs[0] is scale.call.inputs[0] is found.x
