"""The models that a server offers, each in its precisions, and a copy of each for every worker."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from npmnv2.errors import ArgumentError
from npmnv2.hub.registry import names
from npmnv2.loading import load

# How a quantized network is run, by precision: as LiteRT does, or in float32 as it was trained.
_ARITHMETIC: dict[str, Any] = {"integer": "xnnpack", "float": "fakequant"}


class Choice(NamedTuple):
    """A model in one of its precisions."""

    name: str
    precision: str


class Offer(NamedTuple):
    """One model of a server.

    Attributes
    ----------
    name : str
        What clients call it: the registered name, or the name of its file without folder and suffix.
    location : str
        What `npmnv2.load` takes.
    model
        Loaded, in its first precision.
    precisions : tuple of str
        The first one is the default.
    """

    name: str
    location: str
    model: Any
    precisions: tuple[str, ...]


class Catalog:
    """Models by name, ready to run.

    Calls of one model take turns, so every worker has its own copy, which runs on one thread and shares the weights.
    A photo that is alone has all threads instead.

    Parameters
    ----------
    locations : sequence of str
        Registered names or files; the first is the default.
    backend : str
    n_threads : int, optional
        For a photo that is alone; all CPUs that this process may use if not given.
    precision : {"float32", "bf16"}
        Of the products of networks that are not quantized.

    Raises
    ------
    ArgumentError
        If there is no model, or two have one name.
    """

    def __init__(
        self, locations: Sequence[str], backend: str = "auto", n_threads: int | None = None, precision: str = "float32"
    ) -> None:
        if not locations:
            raise ArgumentError("a server needs a model, got none")
        self._options: dict[str, Any] = {"backend": backend, "n_threads": n_threads, "precision": precision}
        self._lock = threading.Lock()
        self._shared: dict[Choice, Any] = {}
        self._own = threading.local()
        self.offers: dict[str, Offer] = {}
        for location in locations:
            self._add(location)

    def _add(self, location: str) -> None:
        path = Path(location)
        name = location if location in names() else path.name if path.is_dir() else path.stem
        if name in self.offers:
            raise ArgumentError(f"models must differ in name: {self.offers[name].location} and {location}")
        model = load(location, **self._options)
        _run_once(model)
        precisions = ("float",) if model.quantization is None else tuple(_ARITHMETIC)
        self.offers[name] = Offer(name, location, model, precisions)
        self._shared[Choice(name, precisions[0])] = model

    def choose(self, name: str | None, precision: str | None) -> Choice:
        """The model and precision that a client means; the first of each where it does not say.

        Raises
        ------
        ArgumentError
            If there is no such model or precision.
        """
        offer = self.offers.get(name) if name is not None else next(iter(self.offers.values()))
        if offer is None:
            raise ArgumentError(f"model (={name!r}) must be one of {', '.join(self.offers)}")
        if precision is not None and precision not in offer.precisions:
            raise ArgumentError(f"precision (={precision!r}) of {offer.name} must be {' or '.join(offer.precisions)}")
        return Choice(offer.name, precision or offer.precisions[0])

    def model(self, choice: Choice, alone: bool) -> Any:
        """The model to run now in the calling thread: with all threads if nothing else runs."""
        if alone:
            return self._wide(choice)
        own: dict[Choice, Any] = vars(self._own).setdefault("models", {})
        if choice not in own:
            own[choice] = copy.copy(self._wide(choice))
            own[choice].n_threads = 1
        return own[choice]

    def _wide(self, choice: Choice) -> Any:
        with self._lock:
            if choice not in self._shared:
                arithmetic = _ARITHMETIC[choice.precision]
                self._shared[choice] = load(self.offers[choice.name].location, arithmetic=arithmetic, **self._options)
            return self._shared[choice]


def _run_once(model: Any) -> None:
    """Report now what cannot run, and compile kernels before a client waits for them."""
    run = model.features if model.task == "features" else model.predict
    run(np.full((model.config.image_size, model.config.image_size, 3), 127, np.uint8))
