"""What models return: by attribute, by key and by position, as in transformers."""

from __future__ import annotations

import numpy as np
import pytest

from npmnv2.models.outputs import HiddenStatesOutput, ImageClassifierOutputWithNoAttention, SemanticSegmenterOutput


def test_outputs_by_attribute_key_and_position(model, pixels) -> None:
    output = model(pixels, output_hidden_states=True, labels=[0, 2])
    assert output.logits.shape == (2, 3)
    assert output["logits"] is output.logits is output[1]
    assert list(output) == output.keys() == ["loss", "logits", "hidden_states"]
    assert output.to_tuple() == output[:]
    assert len(output.hidden_states) == 16
    assert output.hidden_states[0].shape == (2, 8, 17, 9)
    assert output.hidden_states[-1].shape == (2, 112, 3, 2)
    assert "loss" not in model(pixels)
    logits, hidden = model(pixels, output_hidden_states=True, return_dict=False)
    np.testing.assert_array_equal(logits, output.logits)
    np.testing.assert_array_equal(hidden[5], output.hidden_states[5])


def test_what_is_none_is_left_out() -> None:
    output = SemanticSegmenterOutput(None, np.zeros((1, 2, 3, 4), np.float32))
    assert output.keys() == ["logits"]
    assert len(output) == 1
    assert output[0] is output.logits
    assert "attentions" not in output
    with pytest.raises(KeyError):
        output["loss"]


def test_reprs_name_shapes_not_values() -> None:
    states = (np.zeros((1, 8, 4, 4), np.float32),) * 16
    output = ImageClassifierOutputWithNoAttention(0.5, np.zeros((2, 3), np.float32), states)
    assert repr(output) == (
        "ImageClassifierOutputWithNoAttention(loss=0.5, logits=float32 (2, 3), hidden_states=16 arrays)"
    )
    assert repr(HiddenStatesOutput(states[:2])) == "HiddenStatesOutput(hidden_states=2 arrays)"
