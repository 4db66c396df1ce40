"""A quantized network in every arithmetic, and in LiteRT."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from quantized_networks import quantized_checkpoint
from weight_files import random_checkpoint

from npmnv2 import MobileNetV2ForImageClassification
from npmnv2.cli.main import main
from npmnv2.errors import ArgumentError, MissingPackageError
from npmnv2.lab.side_by_side import litert_trace, side_by_side
from npmnv2.weights.native import write_h5

PHOTO = np.random.default_rng(0).integers(0, 256, (70, 80, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def pair():
    reference = MobileNetV2ForImageClassification.from_checkpoint(random_checkpoint(image_size=64), backend="numpy")
    return reference, reference.quantize([PHOTO])


def test_litert_differs_nowhere_and_others_by_few_steps(pair) -> None:
    pytest.importorskip("ai_edge_litert")
    reference, model = pair
    found = side_by_side(model, PHOTO, reference, litert=True)
    assert list(found.columns) == ["reference", "fakequant", "litert", "float"]
    names = [part.name for part in model.plan.parts()]
    assert list(found.values) == names
    for name in names:
        assert found.columns["litert"][name] == (0, 0), name
    assert 0 < found.columns["reference"]["block_1_project"].largest < 20
    assert found.columns["fakequant"]["Conv1"].largest <= 1.01
    assert found.columns["float"]["Conv1"].mean < 1
    lines = str(found).splitlines()
    assert len(lines) == 1 + len(names)
    assert lines[0].split() == ["steps:", "largest,", "mean", "scale", "reference", "fakequant", "litert", "float"]


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_every_value_of_litert(dtype) -> None:
    pytest.importorskip("ai_edge_litert")
    model = MobileNetV2ForImageClassification.from_checkpoint(quantized_checkpoint(dtype))
    x = model.prepare([PHOTO])
    ours = model.run(x, [part.name for part in model.plan.parts()])
    for name, value in litert_trace(model, x).items():
        assert np.array_equal(value.ravel(), ours[name].ravel()), name


def test_without_litert(pair, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(MissingPackageError, match="pip install ai-edge-litert"):
        side_by_side(pair[1], PHOTO, litert=True)


def test_a_float_model_has_no_steps(pair) -> None:
    with pytest.raises(ArgumentError, match="model must be quantized"):
        side_by_side(pair[0], PHOTO)


def test_command(pair, tmp_path, capsys) -> None:
    for name, model in zip(("float.h5", "int8.h5"), pair):
        write_h5(model.to_checkpoint(), tmp_path / name)
    Image.fromarray(PHOTO).save(tmp_path / "photo.png")
    photo = str(tmp_path / "photo.png")
    assert main(["compare", str(tmp_path / "float.h5"), str(tmp_path / "int8.h5"), photo, "--steps"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split()[-3:] == ["reference", "fakequant", "float"]
    assert main(["compare", str(tmp_path / "int8.h5"), photo, "--steps"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split()[-2:] == ["reference", "fakequant"]
