"""``npmnv2 verify``."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from npmnv2 import MobileNetV2Config, MobileNetV2ForImageClassification
from npmnv2.cli.main import main
from npmnv2.errors import WeightsError
from npmnv2.hub.registry import entry
from npmnv2.loading import load


@pytest.fixture
def cached(model, home) -> Path:
    """A checkpoint in the cache."""
    target = home / entry("1.0_96").file
    target.parent.mkdir(parents=True)
    shutil.copy(model, target)
    return target


def edit(path: Path) -> None:
    """Four bytes of one weight."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4] = b"\x00\x00\x80\x3f" if content[middle] != 0 else b"\x01\x00\x80\x3f"
    path.write_bytes(content)


def test_a_sound_file(model, capsys):
    assert main(["verify", model]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{model}: sound, digest ")
    assert len(out.split()[-1]) == 64
    assert err == ""


def test_an_edited_entry_of_the_cache_is_noticed_by_everything_that_reads_it(cached, capsys):
    assert main(["verify", "1.0_96"]) == 0
    capsys.readouterr()
    edit(cached)
    with pytest.raises(WeightsError, match="damaged or edited"):
        load("1.0_96", local_files_only=True)
    assert main(["verify", "1.0_96"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "damaged or edited" in err
    assert main(["info", "1.0_96"]) == 1


def test_all_files_are_looked_at(model, tmp_path, capsys):
    assert main(["verify", str(tmp_path / "absent.h5"), model]) == 1
    out, err = capsys.readouterr()
    assert "sound" in out
    assert "absent.h5" in err


def test_formats_without_a_digest(model, tmp_path, capsys):
    main(["convert", model, str(tmp_path / "m.npz")])
    capsys.readouterr()
    assert main(["verify", str(tmp_path / "m.npz")]) == 0
    assert "complete, but its format has no digest inside; SHA-256 of the file" in capsys.readouterr().out


def test_a_directory(tmp_path, capsys):
    config = MobileNetV2Config(depth_multiplier=0.35, image_size=64, num_labels=2)
    MobileNetV2ForImageClassification(config, seed=0).save_pretrained(tmp_path / "m")
    assert main(["verify", str(tmp_path / "m")]) == 0
    assert "sound, digest" in capsys.readouterr().out
