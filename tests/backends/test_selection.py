"""Which backend runs a model, on which engine."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np
import pytest
from npmnv2.kernels.host import engine
from npmnv2.kernels.host.library import NativeKernels
from npmnv2.kernels.host.target import IntegerTarget, Target

from npmnv2.backends import selection
from npmnv2.backends.compiled import CompiledBackend
from npmnv2.backends.selection import BACKENDS, get_backend, get_quantized_backend
from npmnv2.errors import ArgumentError, MissingPackageError
from npmnv2.network.quantization import Quantization

LIBRARY = {"avx512": Target(16, 32), "avx2": Target(8, 16)}


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if there were neither a library nor Numba, and nothing said about it yet."""
    monkeypatch.delenv("NPMNV2_ENGINE", raising=False)
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    monkeypatch.setattr(engine.library, "load", lambda name, kind: None)
    monkeypatch.setattr(selection, "_hinted", False)
    engine.library_engine.cache_clear()
    yield
    engine.library_engine.cache_clear()


@pytest.fixture
def with_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, kind: str) -> NativeKernels | None:
        chosen = name or "avx512"
        if chosen not in LIBRARY:
            return None
        target = LIBRARY[chosen]
        return NativeKernels(chosen, target if kind == "float" else IntegerTarget(target, kind), max, max)

    monkeypatch.setattr(engine.library, "load", load)


@pytest.fixture
def with_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec("numba") is None:
        pytest.skip("needs Numba")
    monkeypatch.setattr(engine, "find_spec", find_spec)


def chosen(name: str = "auto") -> str:
    """The engine of a backend, or the backend if it has none."""
    backend = get_backend(name)
    return backend.engine.name if isinstance(backend, CompiledBackend) else backend.name


def test_the_library_comes_first(with_library: None, with_numba: None) -> None:
    assert [chosen(name) for name in BACKENDS] == ["avx512", "avx512", "numba", "numpy"]


def test_numba_comes_next(with_numba: None) -> None:
    assert [chosen(name) for name in BACKENDS] == ["numba", "numba", "numba", "numpy"]


def test_the_library_needs_no_numba(with_library: None) -> None:
    assert [chosen(name) for name in ("auto", "compiled", "numpy")] == ["avx512", "avx512", "numpy"]


def test_numpy_comes_last_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "npmnv2"):
        assert [chosen(), chosen("auto"), chosen("numpy")] == ["numpy", "numpy", "numpy"]
    assert [record.getMessage() for record in caplog.records] == [
        "Running on NumPy alone, without native kernels. pip install 'npmnv2[numba]' is several times as fast."
    ]


@pytest.mark.parametrize(
    ("setting", "expected"), [("avx512", "avx512"), ("avx2", "avx2"), ("numba", "numba"), ("numpy", "numpy")]
)
def test_a_setting_chooses(
    monkeypatch: pytest.MonkeyPatch, with_library: None, with_numba: None, setting: str, expected: str
) -> None:
    monkeypatch.setenv("NPMNV2_ENGINE", setting)
    assert chosen() == expected


def test_a_setting_without_kernels_of_its_own_stands_for_the_best_that_it_includes(
    monkeypatch: pytest.MonkeyPatch, with_library: None
) -> None:
    monkeypatch.setattr(engine.platform, "machine", lambda: "x86_64")
    monkeypatch.setenv("NPMNV2_ENGINE", "avx512vnni")
    assert chosen() == "avx512"
    monkeypatch.setenv("NPMNV2_ENGINE", "avxvnni")
    assert chosen() == "avx2"
    monkeypatch.setenv("NPMNV2_ENGINE", "avx512")
    reference = quantized_backend("auto", "reference").engine
    assert reference is not None
    assert reference.name == "avx2", "whose rounding needs no longer vectors"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "avx51",
            r"NPMNV2_ENGINE \(=avx51\) must be one of numpy, numba, avx512bf16, .*, avx2$",
        ),
        ("neon", r"NPMNV2_ENGINE \(=neon\) must be one of numpy, numba, avx512bf16, avx512vnni"),
        ("avx2", r"NPMNV2_ENGINE \(=avx2\) asks for kernels that this installation has not .* set it to numpy"),
        ("numba", r"NPMNV2_ENGINE \(=numba\) asks for kernels"),
    ],
)
def test_a_setting_that_cannot_be_met_is_an_error(monkeypatch: pytest.MonkeyPatch, setting: str, message: str) -> None:
    monkeypatch.setattr(engine.platform, "machine", lambda: "x86_64")
    monkeypatch.setenv("NPMNV2_ENGINE", setting)
    for get in (get_backend, quantized_backend):
        with pytest.raises(ArgumentError, match=message):
            get("auto")
    assert get_backend("numpy").name == "numpy"


def test_engines_of_one_name_share_their_threads(with_library: None) -> None:
    first, second, third = (engine.find_engine(name) for name in ("", "avx512", "avx2"))
    assert first is second is not third


@pytest.mark.parametrize("name", ["compiled", "numba"])
def test_compiled_kernels_by_name_must_be_there(name: str) -> None:
    for get in (get_backend, quantized_backend):
        with pytest.raises(MissingPackageError, match=rf"backend \(='{name}'\) needs .*pip install 'npmnv2\[numba\]'"):
            get(name)


def quantized_backend(name: str = "auto", arithmetic: str | None = None):
    return get_quantized_backend(name, "float32", Quantization({}, {}), arithmetic)


@pytest.mark.parametrize("arithmetic", ["xnnpack", "reference"])
def test_integers_have_kernels_of_their_own(with_library: None, arithmetic: str) -> None:
    backend = quantized_backend("auto", arithmetic)
    assert backend.name == "compiled"
    assert backend.engine.target == IntegerTarget(LIBRARY["avx512"], arithmetic)
    assert backend.engine is not quantized_backend("auto", "reference" if arithmetic == "xnnpack" else "xnnpack").engine
    assert quantized_backend("numpy", arithmetic).name == "numpy"


def test_integers_without_kernels_run_on_numpy() -> None:
    assert quantized_backend().name == "numpy"


def test_fake_quantization_runs_on_numpy(with_library: None) -> None:
    assert quantized_backend("auto", "fakequant").name == "numpy"
    with pytest.raises(
        ArgumentError, match=r"backend \(='compiled'\) must be 'auto' or 'numpy' with arithmetic='fakequant'"
    ):
        quantized_backend("compiled", "fakequant")


@pytest.mark.parametrize(
    ("name", "dtype", "expected"),
    [("auto", np.float64, "numpy"), ("auto", "float32", "compiled"), ("numpy", np.float64, "numpy")],
)
def test_kernels_are_for_float32(with_library: None, name: str, dtype: object, expected: str) -> None:
    assert get_backend(name, dtype).name == expected


@pytest.mark.parametrize(
    ("name", "dtype", "message"),
    [
        ("cuda", np.float32, rf"backend \(='cuda'\) must be one of {', '.join(BACKENDS)}"),
        ("numba", np.float64, r"dtype \(=float64\) must be float32 with backend='numba'; use backend='numpy'"),
        ("compiled", np.float64, r"dtype \(=float64\) must be float32 with backend='compiled'; use backend='numpy'"),
    ],
)
def test_what_there_is_not(name: str, dtype: type, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        get_backend(name, dtype)


def test_bfloat16_needs_a_processor_that_multiplies_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "find_bfloat16_engine", lambda name: None)
    with pytest.raises(ArgumentError, match="needs an x86 processor with AVX-512 BF16"):
        get_backend("auto", precision="bf16")
    assert get_backend("numpy", precision="bf16").name == "numpy"
    with pytest.raises(ArgumentError, match="must be one of float32, bf16"):
        get_backend("auto", precision="fp16")
    with pytest.raises(ArgumentError, match="dtype must be float32"):
        get_backend("numpy", np.float64, "bf16")
