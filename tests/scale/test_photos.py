from __future__ import annotations

import zipfile
from pathlib import Path

import fsspec
import pytest

from npmnv2 import ImageError
from npmnv2.scale import photos
from npmnv2.scale.photos import NamedPhoto, Reader, is_about_the_photo


def test_local_files_stay_paths(tmp_path: Path) -> None:
    names = [str(tmp_path / f"{number}.jpg") for number in range(40)]
    assert list(Reader().photos(names)) == names


def test_others_are_read_in_order_and_missing_ones_raise_when_they_are_read() -> None:
    store = fsspec.filesystem("memory")
    present = [number for number in range(40) if number != 7]
    for number in present:
        store.pipe_file(f"/photos/{number}.jpg", b"%d" % number)
    names = [f"memory:///photos/{number}.jpg" for number in range(40)]
    found = list(Reader().photos(names))
    assert [photo.name for photo in found if isinstance(photo, NamedPhoto)] == names
    assert [found[number].read() for number in present] == [b"%d" % number for number in present]
    with pytest.raises(FileNotFoundError):
        found[7].read()


def test_an_archive_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("1.jpg", "one")
        archive.writestr("2.jpg", "two")
    opened = []
    locate = photos.locate
    monkeypatch.setattr(photos, "locate", lambda url: (opened.append(url), locate(url))[1])
    first, second, third = Reader().photos([f"zip://{name}::{path}" for name in ("1.jpg", "2.jpg", "3.jpg")])
    assert (first.read(), second.read()) == (b"one", b"two")
    with pytest.raises(FileNotFoundError):
        third.read()
    assert opened == [f"zip://::{path}"]


def test_which_errors_are_rows() -> None:
    assert is_about_the_photo(ImageError("damaged"))
    assert is_about_the_photo(FileNotFoundError())
    for error in (PermissionError(), TimeoutError(), ConnectionError(), OSError(5, "Input/output error")):
        assert not is_about_the_photo(error)
