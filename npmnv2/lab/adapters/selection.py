"""From what a user names to an adapter: live objects by their type, files by content and the words after ``@``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

from npmnv2.backends.selection import BACKENDS
from npmnv2.errors import ArgumentError, ArgumentTypeError, WeightsError
from npmnv2.lab.adapters.activations import Activations
from npmnv2.lab.adapters.interface import Adapter
from npmnv2.lab.adapters.npmnv2 import Ours
from npmnv2.loading import Arithmetic

DTYPES = ("float32", "float64")
ARITHMETICS = get_args(Arithmetic)
RUNTIMES = ("npmnv2", "keras", "torch", "litert", "onnxruntime", "tensorflow", "activations")
_OPTIONS = {
    **dict.fromkeys(BACKENDS, "backend"),
    **dict.fromkeys(DTYPES, "dtype"),
    **dict.fromkeys(ARITHMETICS, "arithmetic"),
    **dict.fromkeys(RUNTIMES, "runtime"),
    "bf16": "precision",
}
_RUNTIME_OF_SUFFIX = {".onnx": "onnxruntime", ".keras": "keras"}


def open_side(source: Any) -> Adapter:
    """Return the adapter for one side of a comparison.

    Parameters
    ----------
    source
        A model of npmnv2, a Keras model, a PyTorch module, a mapping of names to arrays, an adapter; or a name or path,
        to which ``@`` and words with commas between add how to run it: a backend, a number type, an arithmetic, or the
        runtime of another framework (``model.tflite@litert``, ``model.h5@numpy,float64``, ``graph.pb@tensorflow``).

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If it is none of these.
    FileNotFoundError, WeightsError, MissingPackageError
    """
    if isinstance(source, Adapter):
        return source
    if isinstance(source, (str, os.PathLike)):
        return _open_file(os.fspath(source))
    if isinstance(source, Mapping):
        return Activations(source)
    if hasattr(source, "plan") and hasattr(source, "trace"):
        return Ours(source)
    maker = _makers_of(source)
    if "torch" in maker:
        from npmnv2.lab.adapters.pytorch import PyTorch

        return PyTorch(source)
    if maker & {"keras", "tf_keras", "tensorflow"}:
        from npmnv2.lab.adapters.keras import Keras

        return Keras(source)
    raise ArgumentTypeError(
        "a side must be a model, a name or path, a Keras model, a PyTorch module or a mapping of names to arrays, "
        f"got {type(source).__name__}"
    )


def _makers_of(source: Any) -> set[str]:
    """The packages that an object's class and its parents come from."""
    return {kind.__module__.partition(".")[0] for kind in type(source).__mro__}


def split_options(text: str) -> tuple[str, dict[str, str]]:
    """A name or path, and the options after its last ``@``.

    Raises
    ------
    ArgumentError
        If a word is unknown, or two say the same thing.
    """
    path, _, words = text.rpartition("@")
    if not path or Path(text).exists():
        return text, {}
    options: dict[str, str] = {}
    for word in words.split(","):
        kind = _OPTIONS.get(word)
        if kind is None or kind in options:
            known = "; ".join(", ".join(group) for group in (BACKENDS, DTYPES, ("bf16",), ARITHMETICS, RUNTIMES))
            raise ArgumentError(f"options of {path} (=@{words}) must be at most one of each: {known}")
        options[kind] = word
    return path, options


def _open_file(text: str) -> Adapter:
    path, options = split_options(text)
    runtime = options.pop("runtime", None) or _RUNTIME_OF_SUFFIX.get(Path(path).suffix, "")
    if runtime in ("", "npmnv2"):
        return _open_ours(path, options, must_be_model=runtime == "npmnv2")
    if options:
        raise ArgumentError(f"options of {path} (={', '.join(options.values())}) must be left out with {runtime}")
    return _OPENERS[runtime](_local(path))


def _local(path: str) -> str:
    """The file that a registered name stands for, or the path itself."""
    if Path(path).exists():
        return path
    from npmnv2.hub.locate import locate

    return str(locate(path))


def _open_ours(path: str, options: Mapping[str, Any], must_be_model: bool) -> Adapter:
    from npmnv2.loading import load

    try:
        return Ours(load(path, **options), Path(path).name)
    except WeightsError:
        if must_be_model or options or Path(path).suffix not in (".npz", ".h5", ".hdf5") or not _is_dump(path):
            raise
        return Activations.from_file(path)


def _is_dump(path: str) -> bool:
    """Whether no array of a file has a weight's name."""
    names = Activations.from_file(path).values
    return not any(name.rpartition("/")[2].partition(":")[0] in _WEIGHTS for name in names)


_WEIGHTS = ("kernel", "weights", "depthwise_weights", "depthwise_kernel", "gamma", "weight")


def _keras(path: str) -> Adapter:
    from npmnv2.lab.adapters.keras import Keras

    return Keras.from_file(path)


def _torch(path: str) -> Adapter:
    from npmnv2.lab.adapters.pytorch import PyTorch

    return PyTorch.from_file(path)


def _litert(path: str) -> Adapter:
    from npmnv2.lab.adapters.litert import LiteRT

    return LiteRT(path)


def _onnxruntime(path: str) -> Adapter:
    from npmnv2.lab.adapters.onnx import OnnxRuntime

    return OnnxRuntime(path)


def _tensorflow(path: str) -> Adapter:
    from npmnv2.lab.adapters.tensorflow import FrozenGraph

    return FrozenGraph(path)


_OPENERS: dict[str, Callable[[str], Adapter]] = {
    "keras": _keras,
    "torch": _torch,
    "litert": _litert,
    "onnxruntime": _onnxruntime,
    "tensorflow": _tensorflow,
    "activations": Activations.from_file,
}
