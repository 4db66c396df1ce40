"""Finding the photos of every class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from npmnv2 import ArgumentError, ArgumentTypeError
from npmnv2.learn.photos import check_classes, labeled_photos


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("dog/b.JPG", "dog/a.png", "cat/1.png", "cat/old/2.png", ".hidden/x.png", "loose.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "cat" / "IMG.HEIC").touch()
    (tmp_path / "cat" / ".DS_Store").touch()
    return tmp_path


def test_a_folder_for_each_class(tree) -> None:
    found = labeled_photos(tree)
    assert found.labels == ("cat", "dog")
    assert [(Path(photo.name).name, photo.label) for photo in found.photos] == [
        ("1.png", 0),
        ("a.png", 1),
        ("b.JPG", 1),
    ]
    assert found.notes == (
        f"1 photo directly in {tree} left out: of no class",
        "1 photo in folders inside the classes left out; --recursive takes them",
        "files of other types left out: 1 .heic",
    )


def test_folders_inside_the_classes(tree) -> None:
    found = labeled_photos(str(tree), recursive=True)
    assert [photo.label for photo in found.photos] == [0, 0, 1, 1]
    assert not any("--recursive" in note for note in found.notes)


def test_names_that_are_not_utf8(tmp_path) -> None:
    path = tmp_path / "x\udcff" / "1\udcff.png"
    try:
        path.parent.mkdir()
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    path.touch()
    found = labeled_photos(tmp_path)
    assert found.labels == ("x\\udcff",)
    assert found.photos[0].name.endswith("1\\udcff.png")
    assert found.photos[0].image == str(path)


def test_a_dictionary() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    found = labeled_photos({"dog": [image, "a.png"], "cat": (image,)})
    assert found.labels == ("dog", "cat")
    assert [(photo.name, photo.label) for photo in found.photos] == [("dog[0]", 0), ("a.png", 0), ("cat[0]", 1)]


def test_a_batch_is_a_list_of_images() -> None:
    assert len(labeled_photos({"a": np.zeros((3, 8, 8, 3), np.uint8)}).photos) == 3


def test_what_is_wrong_is_said(tree) -> None:
    with pytest.raises(FileNotFoundError, match="'nowhere'"):
        labeled_photos("nowhere")
    with pytest.raises(ArgumentError, match=r"must hold a folder of photos for each class, such as .*cat.*, got no"):
        labeled_photos(tree / "dog")
    (tree / "empty").mkdir()
    with pytest.raises(ArgumentError, match=r"got none for empty; --recursive"):
        labeled_photos(tree)
    with pytest.raises(ArgumentError, match=r"test must have photos for every class, got none for a$"):
        labeled_photos({"a": []}, argument="test")
    with pytest.raises(ArgumentTypeError, match=r"photos\['a'\] must be a list of images, got str"):
        labeled_photos({"a": "1.png"})
    with pytest.raises(ArgumentTypeError, match="folder or a dictionary"):
        labeled_photos(["1.png"])


@pytest.mark.parametrize("names", [(1, "1"), ("", "a")])
def test_every_class_has_a_name_of_its_own(names) -> None:
    with pytest.raises(ArgumentError, match="photos must have a name of its own for every class, got "):
        labeled_photos({name: ["1.png"] for name in names})


def test_two_classes_of_two_photos_are_the_least() -> None:
    check_classes(("a", "b"), {0: 2, 1: 2})
    with pytest.raises(ArgumentError, match=r"at least two classes, got 1 \(a\)"):
        check_classes(("a",), {0: 9})
    with pytest.raises(ArgumentError, match=r"at least 2 photos .* too few are of b \(1\), c \(0\): add photos, or"):
        check_classes(("a", "b", "c"), {0: 2, 1: 1})
