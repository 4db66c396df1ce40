"""Neighbors and groups as text, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json

from npmnv2.results.similarity import DuplicateGroup, DuplicatePhoto, SimilarPhoto, SimilarPhotos

FOUND = SimilarPhotos((SimilarPhoto("f/a.jpg", 0.98765), SimilarPhoto("f/b, c.jpg", -0.25)), "cat.jpg")
GROUP = DuplicateGroup(
    (
        DuplicatePhoto("f/large.jpg", 1.0, None, 4000, 3000, 5_000_000),
        DuplicatePhoto("f/copy.jpg", 1.0, "f/large.jpg", 4000, 3000, 5_000_000),
        DuplicatePhoto("f/small.jpg", 0.9123, None, 800, 600, 90_000),
    )
)


def test_neighbors_are_a_sequence() -> None:
    assert len(FOUND) == 2
    assert FOUND[0].source == "f/a.jpg"
    assert [photo.similarity for photo in FOUND[1:]] == [-0.25]
    assert repr(FOUND) == "<SimilarPhotos of cat.jpg: 0.988 f/a.jpg, … 1 more>"
    assert repr(SimilarPhotos(())) == "<SimilarPhotos>"


def test_neighbors_as_text_json_and_csv() -> None:
    assert str(FOUND) == "cat.jpg\n   0.988  f/a.jpg\n  -0.250  f/b, c.jpg"
    assert json.loads(FOUND.to_json()) == {
        "source": "cat.jpg",
        "similar": [{"source": "f/a.jpg", "similarity": 0.98765}, {"source": "f/b, c.jpg", "similarity": -0.25}],
    }
    assert list(csv.reader(io.StringIO(FOUND.to_csv()))) == [
        ["query", "rank", "source", "similarity"],
        ["cat.jpg", "1", "f/a.jpg", "0.987650"],
        ["cat.jpg", "2", "f/b, c.jpg", "-0.250000"],
    ]
    assert FOUND.to_csv(header=False).startswith("cat.jpg,1,")


def test_groups_are_sequences_with_the_one_to_keep_first() -> None:
    assert len(GROUP) == 3
    assert GROUP.keep == GROUP[0]
    assert GROUP.others == GROUP[1:]
    assert repr(GROUP) == "<DuplicateGroup: keep f/large.jpg, 2 more>"


def test_groups_as_text_json_and_csv() -> None:
    assert str(GROUP) == (
        "f/large.jpg  4000 × 3000, keep\n"
        "   1.000  f/copy.jpg  4000 × 3000, same bytes as f/large.jpg\n"
        "   0.912  f/small.jpg  800 × 600"
    )
    values = json.loads(GROUP.to_json())
    assert values["keep"] == {
        "source": "f/large.jpg", "similarity": 1.0, "same_bytes_as": None,
        "width": 4000, "height": 3000, "bytes": 5_000_000,
    }  # fmt: skip
    assert [photo["same_bytes_as"] for photo in values["others"]] == ["f/large.jpg", None]
    rows = list(csv.DictReader(io.StringIO(GROUP.to_csv())))
    assert [row["keep"] for row in rows] == ["f/large.jpg"] * 3
    assert [row["source"] for row in rows] == ["f/large.jpg", "f/copy.jpg", "f/small.jpg"]
    assert [row["same_bytes_as"] for row in rows] == ["", "f/large.jpg", ""]
    assert rows[2]["width"] == "800"
