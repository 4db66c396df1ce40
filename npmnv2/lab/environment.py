"""What runs networks here: engine, instruction set, threads and versions."""

from __future__ import annotations

import importlib.metadata
import platform

from npmnv2.errors import ArgumentError
from npmnv2.kernels.host.cpus import default_threads, usable_cpus
from npmnv2.kernels.host.engine import find_bfloat16_engine, find_engine
from npmnv2.kernels.host.library import FOLDER, MANIFEST

__all__ = ["environment"]

_PACKAGES = ("npmnv2", "numpy", "numba", "llvmlite", "pillow", "h5py")


def environment() -> dict[str, str | int]:
    """Facts about this installation and machine, by name; JSON-serializable."""
    facts: dict[str, str | int] = _engine()
    facts["native library"] = "yes" if (FOLDER / MANIFEST).is_file() else "none"
    facts["bf16"] = _bfloat16()
    facts["threads"] = _threads()
    facts["usable CPUs"] = usable_cpus()
    facts["processor"] = platform.machine()
    facts["python"] = platform.python_version()
    return {**facts, **_versions()}


def _engine() -> dict[str, str | int]:
    try:
        engine = find_engine()
    except ArgumentError as wrong_setting:
        return {"backend": str(wrong_setting)}
    if engine is None:
        return {"backend": "numpy"}
    return {
        "backend": "compiled",
        "engine": "Numba" if engine.name == "numba" else "native library",
        "instruction set": f"{_instruction_set(engine.name)}, {engine.target.lanes} floats in a register",
    }


def _bfloat16() -> str:
    """Which kernels `precision="bf16"` runs on."""
    try:
        engine = find_bfloat16_engine()
    except ArgumentError as wrong_setting:
        return str(wrong_setting)
    return "no" if engine is None else "AVX-512 BF16"


def _instruction_set(name: str) -> str:
    return "this processor's" if name == "numba" else name


def _threads() -> str | int:
    try:
        return int(default_threads())
    except ArgumentError as wrong_setting:
        return str(wrong_setting)


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
