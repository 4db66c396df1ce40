"""``npmnv2 explain``."""

from __future__ import annotations

import pytest
from PIL import Image

from npmnv2.cli.main import main


def test_a_layer_without_a_photo(model, capsys) -> None:
    assert main(["explain", "block_3", "--model", model]) == 0
    out = capsys.readouterr().out
    assert "inverted residual" in out
    assert "def block_3(x, weights):" in out
    assert "at top" not in out


@pytest.mark.parametrize("layer", ["block_3_expand", "predictions"])
def test_a_picture(model, folder, capsys, layer) -> None:
    target = folder / "seen.png"
    assert main(["explain", layer, "--model", model, "--photo", str(folder / "a.png"), "--out", str(target)]) == 0
    captured = capsys.readouterr()
    assert "at top" in captured.out
    assert f"wrote {target}" in captured.err
    with Image.open(target) as picture:
        assert min(picture.size) > 50


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["block_33"], "did you mean"), (["block_3", "--out", "a.png"], "--out needs --photo")],
)
def test_mistakes(model, capsys, arguments, words) -> None:
    assert main(["explain", *arguments, "--model", model]) == 1
    assert words in capsys.readouterr().err
