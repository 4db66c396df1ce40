"""The tree of exceptions."""

from __future__ import annotations

import pickle

import pytest

from npmnv2 import errors

ALL = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_one_base_and_a_docstring(kind):
    assert issubclass(kind, errors.Npmnv2Error)
    assert kind.__doc__


@pytest.mark.parametrize(
    ("kind", "python"),
    [
        (errors.ArgumentError, ValueError),
        (errors.ArgumentTypeError, TypeError),
        (errors.MissingPackageError, ModuleNotFoundError),
        (errors.WeightsError, ValueError),
        (errors.ImageError, ValueError),
        (errors.IndexFileError, ValueError),
        (errors.OfflineError, ConnectionError),
    ],
)
def test_each_is_one_of_pythons_own(kind, python):
    with pytest.raises(python, match="what was wrong"):
        raise kind("what was wrong")


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_they_travel_between_processes(kind):
    copy = pickle.loads(pickle.dumps(kind("what was wrong")))
    assert (type(copy), str(copy)) == (kind, "what was wrong")
