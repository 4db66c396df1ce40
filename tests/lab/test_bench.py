"""`npmnv2 warmup` and `npmnv2 bench`: that they say something true, not how fast."""

from __future__ import annotations

import re

import pytest
from engines import BACKENDS

from npmnv2.errors import ArgumentError
from npmnv2.lab.bench import bench, warmup


def test_bench_has_a_line_per_backend() -> None:
    header, *lines = bench(batch=2, seconds=0.0).splitlines()
    assert "batch 2" in header
    assert [line.split()[0] for line in lines] == sorted(BACKENDS)
    for line in lines:
        _, per_image, per_second, speed = line.split()
        # What is left after rounding to two decimals and to one: much, on a slow machine.
        of_image, of_second, of_speed = 0.005 / float(per_image), 0.05 / float(per_second), 0.05 / float(speed)
        assert float(per_image) * float(per_second) == pytest.approx(1000, rel=1.1 * (of_image + of_second))
        assert float(per_image) * float(speed) == pytest.approx(2 * 300.8, rel=1.1 * (of_image + of_speed))


def test_one_image_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("npmnv2.lab.bench.median_seconds", lambda run, seconds: 0.1 * seconds)
    header, *lines = bench().splitlines()
    assert "batch 1)" in header
    assert all(line.split()[1:3] == ["200.00", "5.0"] for line in lines)
    assert all(line.split()[1:3] == ["25.00", "40.0"] for line in bench(8).splitlines()[1:])


def test_impossible_batch() -> None:
    with pytest.raises(ValueError, match=r"batch \(=0\) must be at least 1"):
        bench(batch=0)


@pytest.mark.parametrize("multiplies", [True, False])
def test_warmup_prepares_bfloat16_if_it_is_asked_for(monkeypatch: pytest.MonkeyPatch, multiplies: bool) -> None:
    pytest.importorskip("npmnv2.kernels.device.jit")
    ready: list[str] = []

    class Engine:
        def __init__(self, kind: str) -> None:
            self.prepare = lambda: ready.append(kind)

    monkeypatch.setattr("npmnv2.lab.bench._runner", lambda *_: lambda: ready.append("floats"))
    monkeypatch.setattr("npmnv2.lab.bench.find_integer_engine", lambda arithmetic, _: Engine(arithmetic))
    for user in ("lab.bench", "backends.selection"):
        name = f"npmnv2.{user}.find_bfloat16_engine"
        monkeypatch.setattr(name, lambda _: Engine("bf16") if multiplies else None)
    warmup()
    assert ready == ["floats", "xnnpack"]
    ready.clear()
    if multiplies:
        warmup(precision="bf16")
        assert ready == ["floats", "xnnpack", "bf16"]
        return
    with pytest.raises(ArgumentError, match="needs an x86 processor with AVX-512 BF16"):
        warmup(precision="bf16")
    assert not ready


def test_warmup_knows_the_precisions() -> None:
    with pytest.raises(ArgumentError, match=r"precision \(='fp16'\) must be one of float32, bf16"):
        warmup(precision="fp16")


def test_warmup_tells_where_kernels_are_kept() -> None:
    jit = pytest.importorskip("npmnv2.kernels.device.jit")
    sentence = warmup(n_threads=2)
    assert re.match(r"Kernels ready after [\d.]+ s, ", sentence)
    assert str(jit.cache_folder()) in sentence or "no folder" in sentence
