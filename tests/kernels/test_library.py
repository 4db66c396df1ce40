"""The library of kernels: taken only if it fits, and otherwise left alone with one line about it."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
from pathlib import Path
from typing import Any

import pytest
from children import run_python
from npmnv2.kernels.host import abi, library
from npmnv2.kernels.host.instruction_sets import KINDS, X86, Bits, instruction_sets
from npmnv2.kernels.host.library import load


def write(folder: Path, content: bytes = b"no library at all", **changes: Any) -> Path:
    """Write a library of that content, and a manifest that fits it but for the changes."""
    (folder / "libnpmnv2.so").write_bytes(content)
    manifest = {
        "file": "libnpmnv2.so",
        "sha256": hashlib.sha256(content).hexdigest(),
        "layouts": abi.layout_digest(),
        "sources": abi.source_digest(),
        "kernels": {
            kind: {name: {"lanes": 4, "registers": 16, "features": []} for name in ("avx512", "avx2", "neon")}
            for kind in KINDS
        },
    }
    (folder / library.MANIFEST).write_text(json.dumps({**manifest, **changes}))
    return folder


def test_a_package_without_a_library_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert load(folder=tmp_path) is None
    assert not caplog.records


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"layouts": "0" * 16}, "they were built from another version"),
        ({"sources": "0" * 16}, "they were built from another version"),
        ({"sha256": "0" * 64}, "libnpmnv2.so is damaged"),
        ({"file": "missing.so"}, "No such file"),
        ({"file": None}, ""),
        ({}, "libnpmnv2.so"),  # sound by its manifest, but nothing that the system can load
    ],
)
def test_what_does_not_fit_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], reason: str
) -> None:
    with caplog.at_level(logging.WARNING, "npmnv2"):
        assert load(folder=write(tmp_path, **changes)) is None
    (record,) = caplog.records
    assert record.getMessage().startswith(f"The native kernels in {tmp_path} are not used: ")
    assert reason in record.getMessage()
    assert "\n" not in record.getMessage()


@pytest.mark.parametrize("manifest", ["", "[]", "null", '{"file": 1}', "{" * 100_000])
def test_a_manifest_that_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture, manifest: str) -> None:
    write(tmp_path)
    (tmp_path / library.MANIFEST).write_text(manifest)
    with caplog.at_level(logging.WARNING, "npmnv2"):
        assert load(folder=tmp_path) is None
    assert len(caplog.records) == 1


needs_library = pytest.mark.skipif(load() is None, reason="needs native kernels")


@needs_library
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_library_is_not_loaded(tmp_path: Path, caplog: pytest.LogCaptureFixture, kept: float) -> None:
    manifest = json.loads((library.FOLDER / library.MANIFEST).read_text())
    whole = (library.FOLDER / manifest["file"]).read_bytes()
    write(tmp_path, whole[: int(kept * len(whole))], sha256=manifest["sha256"])
    with caplog.at_level(logging.WARNING, "npmnv2"):
        assert load(folder=tmp_path) is None
    assert "is damaged" in caplog.text


@needs_library
def test_a_library_of_other_names_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = json.loads((library.FOLDER / library.MANIFEST).read_text())
    other = {"float": {name: {"lanes": 4} for name in manifest["kernels"]["float"]}}
    write(tmp_path, (library.FOLDER / manifest["file"]).read_bytes(), kernels=other)
    with caplog.at_level(logging.WARNING, "npmnv2"):
        assert load(folder=tmp_path) is None
    assert len(caplog.records) == 1


@needs_library
def test_the_library_is_used() -> None:
    best = load()
    assert best is not None
    for kind in KINDS:
        best = load(kind=kind)
        assert best is not None
        known = instruction_sets(platform.machine())
        assert next(each.name for each in known if load(each.name, kind=kind)) == best.name
    assert load("nothing") is None


@needs_library
def test_the_library_is_small() -> None:
    manifest = json.loads((library.FOLDER / library.MANIFEST).read_text())
    kernels = sum(map(len, manifest["kernels"].values()))
    assert (library.FOLDER / manifest["file"]).stat().st_size < 50_000 * kernels


WITHOUT_NUMBA = """
import sys
sys.modules["numba"] = sys.modules["llvmlite"] = None  # importing them is an ImportError
import numpy as np
from npmnv2 import MobileNetV2Config, MobileNetV2ForImageClassification, MobileNetV2ForSemanticSegmentation
x = np.zeros((3, 65, 65, 3), np.float32)
for kind in (MobileNetV2ForImageClassification, MobileNetV2ForSemanticSegmentation):
    config = MobileNetV2Config(depth_multiplier=0.35, image_size=65, num_labels=3)
    for n_threads in (1, 2):
        model = kind(config, seed=0, n_threads=n_threads)
        print(model.backend.name, np.isfinite(model(x, data_format="channels_last").logits).all())
"""


@needs_library
def test_networks_run_where_numba_cannot_be_imported(tmp_path: Path) -> None:
    assert run_python(WITHOUT_NUMBA, tmp_path) == "\n".join(4 * ["compiled True"])


def test_the_host_half_needs_neither_numba_nor_llvmlite(tmp_path: Path) -> None:
    code = """
import importlib, pkgutil, sys
sys.modules["numba"] = sys.modules["llvmlite"] = None
import npmnv2.backends, npmnv2.kernels.host
for package in (npmnv2.kernels.host, npmnv2.backends):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
print("imported")
"""
    assert run_python(code, tmp_path) == "imported"


def test_bits_that_are_needed() -> None:
    needs = {each.name: each.needs for each in X86}
    avx512, avx2 = needs["avx512"], needs["avx2"]
    assert avx512.covers(avx2)
    assert needs["avx512vnni"].covers(avx512)
    assert needs["avxvnni"].covers(avx2)
    assert not any(needs[vnni].covers(needs[other]) for vnni, other in (("avx512", "avx512vnni"), ("avx2", "avxvnni")))
    assert not avx2.covers(avx512)
    assert not avx512._replace(saved=6).covers(avx512)  # the processor could, but the system saves no such registers
    assert Bits(1, 2) | Bits(4, 2, 1) == Bits(5, 2, 1)


def test_processors_by_name() -> None:
    assert instruction_sets("AMD64") == X86
    assert [each.name for each in instruction_sets("arm64")] == ["neondot", "neon"]
    assert instruction_sets("riscv64") == ()


@pytest.mark.parametrize(
    ("machine", "features", "expected"),
    [("arm64", {"dotprod"}, ["neondot", "neon"]), ("aarch64", set(), ["neon"]), ("riscv64", {"dotprod"}, [])],
)
def test_an_arm_processor_must_have_the_features(
    monkeypatch: pytest.MonkeyPatch, machine: str, features: set[str], expected: list[str]
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(library, "arm_features", lambda: frozenset(features))
    nothing_to_ask: Any = None
    assert [each.name for each in library._usable(nothing_to_ask)] == expected


@pytest.mark.parametrize(
    ("machine", "last_leaf", "width", "half"),
    [
        ("x86_64", 0x8000_0021, 0b0110, True),
        ("AMD64", 0x8000_001A, 0b0100, True),
        ("x86_64", 0x8000_0021, 0b1110, False),  # 512 bits
        ("x86_64", 0x8000_0021, 0b0011, False),  # 128 bits, for which there are no kernels
        ("x86_64", 0x8000_0008, 0b0110, False),  # a leaf that there is not holds anything
        ("aarch64", 0x8000_0021, 0b0110, False),
    ],
)
def test_the_width_of_units(
    monkeypatch: pytest.MonkeyPatch, machine: str, last_leaf: int, width: int, half: bool
) -> None:
    class Asked:
        def npmnv2_cpuid(self, leaf: Any, subleaf: Any, out: Any) -> None:
            out[:] = [{0x8000_0000: last_leaf, 0x8000_001A: width}[leaf.value], 0, 0, 0]

    monkeypatch.setattr(platform, "machine", lambda: machine)
    asked: Any = Asked()
    assert library._half_width(asked) == half


def test_digests_change_with_what_they_are_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    layouts, sources = abi.layout_digest(), abi.source_digest()
    monkeypatch.setattr(abi.steps, "ARENA", 99)
    assert abi.layout_digest() != layouts
    monkeypatch.setattr(abi, "_DEVICE", tmp_path)
    assert abi.source_digest() == ""
    (tmp_path / "program.py").write_text("")
    assert abi.source_digest() not in ("", sources)
