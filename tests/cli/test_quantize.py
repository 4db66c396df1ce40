"""``npmnv2 quantize``."""

from __future__ import annotations

import pytest

import npmnv2
from npmnv2.cli.main import main


@pytest.mark.parametrize("name", ["q.h5", "q.tflite"])
def test_a_network_becomes_integers(capsys, model, folder, tmp_path, name) -> None:
    assert main(["quantize", str(model), str(folder), "--out", str(tmp_path / name)]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0].split()[0] == "value"
    assert "same best class on" in out
    assert f"wrote {tmp_path / name}" in err
    found = npmnv2.load(tmp_path / name)
    assert found.quantization is not None
    assert main(["info", str(tmp_path / name), "--layers"]) == 0
    assert "block_16_project" in capsys.readouterr().out


def test_no_photos(capsys, model, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["quantize", str(model), str(tmp_path / "empty"), "--out", str(tmp_path / "q.h5")]) == 1
    assert not (tmp_path / "q.h5").exists()


def test_a_format_without_integers_is_refused_before_the_work(capsys, model, folder, tmp_path) -> None:
    with pytest.raises(SystemExit):
        main(["quantize", str(model), str(folder), "--out", str(tmp_path / "int8.onnx")])
    assert "--out: must end in .h5 or .tflite, got" in capsys.readouterr().err
