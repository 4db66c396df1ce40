"""The models of a server, by name and precision."""

import threading
from pathlib import Path

import numpy as np
import pytest

from npmnv2.errors import ArgumentError
from npmnv2.hub import PACKAGED

pytest.importorskip("fastapi")

from npmnv2.serve.catalog import Catalog, Choice


def test_a_file_is_called_by_its_name_without_its_folder(model_files, catalog) -> None:
    assert list(catalog.offers) == [Path(file).stem for file in model_files.values()] + [PACKAGED]


def test_the_first_model_and_its_first_precision_are_the_defaults(catalog) -> None:
    assert catalog.choose(None, None) == Choice("classifi", "float")
    assert catalog.choose(PACKAGED, None) == Choice(PACKAGED, "integer")
    assert catalog.choose(PACKAGED, "float") == Choice(PACKAGED, "float")


def test_what_there_is_not_is_named_with_what_there_is(catalog) -> None:
    with pytest.raises(ArgumentError, match=r"model \(='/etc/passwd'\) must be one of classifi, segmenta"):
        catalog.choose("/etc/passwd", None)
    with pytest.raises(ArgumentError, match=r"precision \(='integer'\) of classifi must be float"):
        catalog.choose("classifi", "integer")


def test_models_have_run_before_a_client_waits_for_them(catalog) -> None:
    assert all("executable" in vars(offer.model) for offer in catalog.offers.values())


def test_models_of_one_name_are_refused(model_files) -> None:
    with pytest.raises(ArgumentError, match="models must differ in name"):
        Catalog([model_files["classification"]] * 2)
    with pytest.raises(ArgumentError, match="needs a model"):
        Catalog([])


def test_every_thread_has_a_copy_on_one_thread_that_shares_the_weights(catalog) -> None:
    choice, copies = catalog.choose(None, None), []

    def get() -> None:
        copies.extend(catalog.model(choice, alone=False) for _ in range(2))

    for _ in range(2):
        thread = threading.Thread(target=get)
        thread.start()
        thread.join()
    wide = catalog.model(choice, alone=True)
    assert copies[0] is copies[1] is not copies[2] is copies[3]
    assert wide.n_threads == 2
    assert all(copy.n_threads == 1 for copy in copies)
    assert all(copies[0].weights[name] is array for name, array in wide.weights.items())
    image = np.zeros((70, 80, 3), np.uint8)
    np.testing.assert_array_equal(copies[0].predict(image).logits, wide.predict(image).logits)


def test_precisions_are_two_ways_to_run_one_network(catalog) -> None:
    image = np.random.default_rng(0).integers(0, 256, (230, 240, 3), np.uint8)
    integer, simulated = (
        catalog.model(catalog.choose(PACKAGED, precision), alone=True).predict(image).logits
        for precision in ("integer", "float")
    )
    assert not np.array_equal(integer, simulated)
    assert abs(integer - simulated).max() < 0.2 * abs(integer).max()
