"""One image, lists and iterators, batches, and what becomes of images that fail."""

from __future__ import annotations

import io
import logging
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from npmnv2.errors import ImageError
from npmnv2.images.streams import check_count, map_ahead, map_images


class Network:
    """Doubles numbers; an "image" is a path whose name is the number, or the word bad."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.prepared: list[str] = []

    def prepare(self, image):
        self.prepared.append(image)
        if image.startswith("bad"):
            raise ImageError(f"{image} is bad")
        side = 32 + int(image) % 2  # even and odd numbers differ in size
        return np.full((1, side, side, 3), float(image), np.float32), image

    def run(self, x):
        self.batches.append(len(x))
        if (x == 13).any():
            raise ImageError("13 does not run")
        return 2 * x[:, 0, 0, 0]

    def finish(self, values, index, context):
        return context, float(values[index])

    def map(self, images, batch_size=8, **options):
        return map_images(images, self.prepare, self.run, self.finish, batch_size, **options)


@pytest.fixture
def network() -> Network:
    return Network()


def test_the_form_of_the_answer_is_that_of_the_question(network):
    assert network.map("2") == ("2", 4.0)
    assert network.map(["2", "4"]) == network.map(("2", "4")) == [("2", 4.0), ("4", 8.0)]
    stream = network.map(iter(["2"]))
    assert iter(stream) is stream
    assert next(stream) == ("2", 4.0)
    assert network.map([]) == []
    assert list(network.map(iter([]))) == []


@pytest.mark.parametrize(
    ("batch_size", "batches"), [(1, [1] * 6), (2, [2, 1, 1, 1, 1]), (4, [2, 1, 1, 1, 1]), (8, [2, 1, 2, 1])]
)
def test_neighbors_of_one_size_run_together(network, batch_size, batches):
    results = network.map(["2", "4", "1", "6", "8", "3"], batch_size)
    assert [name for name, _ in results] == ["2", "4", "1", "6", "8", "3"]
    assert [value for _, value in results] == [4, 8, 2, 12, 16, 6]
    assert network.batches == batches


def test_iterators_are_read_a_batch_ahead(network):
    stream = network.map(iter(map(str, range(0, 100, 2))), batch_size=3)
    assert network.prepared == []
    next(stream)
    assert network.prepared == ["0", "2", "4"]


def test_raise_gives_what_comes_before(network):
    stream = network.map(iter(["2", "1", "bad", "4"]))
    assert [next(stream), next(stream)] == [("2", 4.0), ("1", 2.0)]
    with pytest.raises(ImageError, match="bad is bad"):
        next(stream)
    with pytest.raises(ImageError, match="bad is bad"):
        network.map(["2", "bad"])
    with pytest.raises(ImageError, match="bad is bad"):
        network.map("bad")


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
def test_skip_and_return(network, batch_size, caplog):
    images = ["bad 1", "2", "4", "bad 2", "bad 3", "1", "bad 4"]
    with caplog.at_level(logging.WARNING, "npmnv2"):
        assert network.map(images, batch_size, errors="skip") == [("2", 4.0), ("4", 8.0), ("1", 2.0)]
    assert [record.getMessage() for record in caplog.records] == [
        f"an image was skipped: bad {i} is bad" for i in (1, 2, 3, 4)
    ]
    results = network.map(images, batch_size, errors="return")
    assert [str(r) if isinstance(r, Exception) else r[0] for r in results] == [
        "bad 1 is bad", "2", "4", "bad 2 is bad", "bad 3 is bad", "1", "bad 4 is bad",
    ]  # fmt: skip


def test_a_batch_that_does_not_run_fails_as_a_whole(network):
    results = network.map(["13", "11", "2"], errors="return")
    assert [str(result) for result in results[:2]] == ["13 does not run"] * 2
    assert results[2] == ("2", 4.0)


def test_what_is_no_error_of_an_image_is_never_hidden(network):
    network.run = lambda x: 1 / 0
    with pytest.raises(ZeroDivisionError):
        network.map(["2"], errors="skip")


ONE = [
    b"1", bytearray(b"1"), memoryview(b"1"), Path("1"), io.BytesIO(b"1"), Image.new("L", (3, 3)),
    np.zeros((3, 3)), np.zeros((3, 3, 3)), np.zeros(3),
]  # fmt: skip
SEVERAL = [np.zeros((2, 3, 3, 3)), np.array(["a", "b"]), np.array(["a", None], object), ("a", "b"), {"a", "b"}]


@pytest.mark.parametrize("one", ONE, ids=lambda one: type(one).__name__)
def test_what_counts_as_one_image(one):
    seen = []
    map_images(one, lambda image: (np.zeros((1, 1, 1, 1)), seen.append(image)), lambda x: x, lambda *_: None, 1)
    assert len(seen) == 1
    assert seen[0] is one


@pytest.mark.parametrize(
    "several", [np.zeros((2, 3, 3, 3)), np.array(["a", "b"]), np.array(["a", None], object), ("a", "b"), {"a", "b"}]
)
def test_what_counts_as_several(several):
    seen = []
    map_images(several, lambda image: (np.zeros((1, 1, 1, 1)), seen.append(image)), lambda x: x, lambda *_: None, 1)
    assert len(seen) == 2


@pytest.mark.parametrize("nothing", [3, None, {"a": 1}])
def test_what_is_no_image_at_all(network, nothing):
    with pytest.raises(TypeError, match=r"images must be an image, a path or a list of them, got (int|None|dict)"):
        network.map(nothing)


@pytest.mark.parametrize("value", [0, -1, True, 2.0, "3", None])
def test_counts_are_whole_numbers_from_one(value):
    with pytest.raises(ValueError, match=r"top_k \(=.*\) must be an integer of at least 1"):
        check_count("top_k", value)
    check_count("top_k", 1)
    check_count("top_k", np.int32(3))


# --- ahead of the caller ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [1, 2, 7, 100])
def test_results_ahead_come_in_order_and_no_further_than_asked(ahead):
    taken = []
    items = (taken.append(item) or item for item in range(20))
    for at, result in enumerate(map_ahead(lambda item: item * 2, items, 3, ahead)):
        assert result == 2 * at
        assert len(taken) <= at + ahead
    assert len(taken) == 20


def test_items_ahead_are_worked_on_at_once():
    both = threading.Barrier(2)
    assert len(list(map_ahead(lambda _: both.wait(timeout=60), range(2), 2, 2))) == 2


def test_an_exception_takes_the_place_of_its_result():
    results = map_ahead(lambda item: 6 // item, [3, 0, 2], 2, 3)
    assert next(results) == 2
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_stopping_early_leaves_nothing_running():
    before, started = set(threading.enumerate()), []
    results = map_ahead(started.append, range(1000), 2, 10)
    next(results)
    results.close()
    assert set(threading.enumerate()) <= before
    assert len(started) <= 11
