"""``npmnv2 convert``."""

from __future__ import annotations

import shutil

import pytest

from npmnv2.cli.main import main
from npmnv2.weights.native import read_h5, write_h5


def test_convert_says_what_transformers_cannot_keep(model, tmp_path, capsys) -> None:
    assert main(["convert", model, str(tmp_path / "a"), "--to", "transformers"]) == 0
    assert "own way" not in capsys.readouterr().err

    checkpoint = read_h5(model)
    checkpoint.preprocessing = {"preset": "slim", "size": 64}
    write_h5(checkpoint, tmp_path / "slim.h5")
    assert main(["convert", str(tmp_path / "slim.h5"), str(tmp_path / "b"), "--to", "transformers"]) == 0
    assert "transformers cannot prepare photos as 'slim' does" in capsys.readouterr().err


def test_a_registered_name_is_converted_from_the_cache(model, home, tmp_path, capsys):
    target = home / "tensorflow" / "mobilenet_v2_1.0_96.h5"
    target.parent.mkdir(parents=True)
    shutil.copy(model, target)
    assert main(["convert", "1.0_96", str(tmp_path / "out.npz")]) == 0
    assert (tmp_path / "out.npz").is_file()


@pytest.mark.parametrize("name", ["model.onnx", "model.tflite"])
def test_formats_of_other_runtimes_are_known_by_their_suffix(model, tmp_path, capsys, name):
    assert main(["convert", model, str(tmp_path / name)]) == 0
    assert f"wrote {tmp_path / name}" in capsys.readouterr().err
    assert (tmp_path / name).stat().st_size > 100_000
