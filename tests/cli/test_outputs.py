"""Where the files of photos go."""

from __future__ import annotations

from pathlib import Path

import pytest

from npmnv2.cli.outputs import make_folders, targets
from npmnv2.cli.photos import Photo
from npmnv2.errors import ArgumentError

ONE, TWO = Photo("a/x.png", "a/x.png"), Photo("b/y.png", "b/y.png")


def test_a_file_for_one_photo_and_a_folder_for_several(tmp_path: Path) -> None:
    assert targets(None, [ONE], ".jpg") == {}
    assert targets("out.png", [ONE], ".jpg") == {"a/x.png": Path("out.png")}
    assert targets(str(tmp_path), [ONE], ".jpg") == {"a/x.png": tmp_path / "x.jpg"}
    assert targets("out", [ONE, TWO], ".jpg") == {"a/x.png": Path("out/x.jpg"), "b/y.png": Path("out/y.jpg")}
    with pytest.raises(ArgumentError, match=r"out\.png must be a folder where there are 2 photos"):
        targets("out.png", [ONE, TWO], ".jpg")


def test_folders_are_made_and_nothing_is_overwritten(tmp_path: Path) -> None:
    make_folders([tmp_path / "new" / "x.jpg"], [ONE])
    assert (tmp_path / "new").is_dir()
    with pytest.raises(ArgumentError, match="it is a photo"):
        make_folders([Path("a/x.png")], [ONE])
    with pytest.raises(ArgumentError, match="would be written twice"):
        make_folders([tmp_path / "x.jpg"] * 2, [ONE])
