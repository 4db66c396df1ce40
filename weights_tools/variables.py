"""From the variables of TensorFlow's files to canonical weights; averages come before raw values.

Training keeps an exponential moving average of every trained variable beside it, which scores 1.5–2 % higher
on ImageNet than the variable itself, so kernels, biases, γ and β are taken from there if they are there. The
batch norms' moving statistics are averages already and are taken as they are, except where a checkpoint
averages them too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from npmnv2.errors import WeightsError
from npmnv2.network.architecture import CLASSIFIER
from npmnv2.weights.assemble import Content
from npmnv2.weights.bounds import Array
from npmnv2.weights.keras import classifier_names
from npmnv2.weights.names import split

from .names import canonical_from_keras, canonical_from_slim, from_slim_layout

AVERAGE = "/ExponentialMovingAverage"
_STATISTICS = ("moving_mean", "moving_variance")
# Slots that optimizers keep beside a variable, and variables of training itself.
_TRAINING = re.compile(
    r".*/(RMSProp(_\d+)?|Momentum|Adam(_\d+)?|Adagrad|Adadelta(_\d+)?|Ftrl(_\d+)?|LARSOptimizer|biased|local_step)"
    r"|(.*/)?(global_step|beta[12]_power|learning_rate|iteration|save_counter|seed_generator_state)(:0)?"
    r"|_CHECKPOINTABLE_OBJECT_GRAPH|(.*/)?(optimizer|keras_api)/.*|.*/\.OPTIMIZER_SLOT/.*"
    r"|(adam|sgd|rmsprop|adagrad|adamw|lion)/.*"
)
_QUANTIZED = re.compile(r".*_quant/(min|max)(/.*)?")


class Selection(NamedTuple):
    """Which foreign variable stands for which canonical one.

    Attributes
    ----------
    chosen : dict
        Canonical name → foreign name.
    unexpected : tuple of str
        Foreign names that are neither the network's nor training's.
    ema : bool
        Whether averages were taken.
    """

    chosen: dict[str, str]
    unexpected: tuple[str, ...]
    ema: bool


def select(path: Path, names: Iterable[str]) -> Selection:
    """Choose among the variables of a TF-slim or Keras file by their names.

    Raises
    ------
    WeightsError
        If two variables are one weight.
    """
    raw: dict[str, str] = {}
    averaged: dict[str, str] = {}
    unexpected: list[str] = []
    for name in sorted(names):
        if _QUANTIZED.fullmatch(name):
            continue  # ranges, which `fake_quant` reads
        known = canonical_name(name.removesuffix(AVERAGE))
        if known is not None:
            names_of = averaged if name.endswith(AVERAGE) else raw
            if known in names_of:
                raise WeightsError(f"{path}: both {names_of[known]!r} and {name!r} would be {known}; keep one model")
            names_of[known] = name
        elif not _TRAINING.fullmatch(name.removesuffix(AVERAGE)):
            unexpected.append(name)
    trained = {known: name for known, name in averaged.items() if split(known)[1] not in _STATISTICS}
    # Averages of moving statistics belong to averages of weights, and to nothing else.
    return Selection({**raw, **(averaged if trained else {})}, tuple(unexpected), bool(trained))


def canonical_name(name: str) -> str | None:
    """Canonical name of a variable named by TF-slim or by Keras."""
    return canonical_from_slim(name) or canonical_from_keras(name)


def content(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    value_of: Callable[[str], Array],
    known: Mapping[str, Any] | None = None,
) -> Content:
    """Choose among named variables and read the chosen ones.

    Unknown scalars are counters of training, not weights; all other unknown variables are reported.
    """
    selection = _with_classifier(path, select(path, shapes), shapes)
    weights = {known: from_slim_layout(known, value_of(name)) for known, name in selection.chosen.items()}
    from_keras = _is_from_keras(selection)
    return Content(
        weights,
        known or {},
        maker="keras" if from_keras else "slim",
        unexpected=tuple(name for name in selection.unexpected if shapes[name]),
        preprocessing={"preset": "keras"} if from_keras else None,
        source={"ema": selection.ema},
    )


def _is_from_keras(selection: Selection) -> bool:
    stem = selection.chosen.get("Conv1/kernel", "")
    return bool(stem) and canonical_from_slim(stem.removesuffix(AVERAGE)) is None


def _with_classifier(path: Path, selection: Selection, shapes: Mapping[str, tuple[int, ...]]) -> Selection:
    """Take the one dense layer of a fine-tuned Keras model for the classifier, whatever it is called."""
    if f"{CLASSIFIER}/kernel" in selection.chosen or not _is_from_keras(selection):
        return selection
    found = classifier_names(path, {name: shapes[name] for name in selection.unexpected})
    rest = tuple(name for name in selection.unexpected if name not in found)
    return Selection({**selection.chosen, **{known: name for name, known in found.items()}}, rest, selection.ema)
