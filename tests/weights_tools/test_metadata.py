"""Configuration, labels, preprocessing and source as JSON."""

from __future__ import annotations

from pathlib import Path

import pytest
from npmnv2.weights_tools.metadata import from_json, to_json
from weight_files import random_checkpoint

from npmnv2 import WeightsError


@pytest.mark.parametrize("labels", [None, ("cat", "Hündchen\n", '"\\')])
def test_what_is_written_is_read(labels) -> None:
    checkpoint = random_checkpoint(labels=labels, tf_padding=False, layer_norm_eps=1e-5)
    found = from_json(Path("file"), to_json(checkpoint), "entry")
    assert found["config"].replace(extra={}) == checkpoint.config
    assert {key: found[key] for key in ("labels", "preprocessing", "source")} == {
        "labels": labels,
        "preprocessing": checkpoint.preprocessing,
        "source": checkpoint.source,
    }


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"config": 1, "labels": 2}', "[" * 100_000, b"\xff\xfe"])
def test_anything_else_is_an_error_with_its_place(text) -> None:
    with pytest.raises(WeightsError, match=r"file.*entry"):
        from_json(Path("file"), text, "entry")
