"""``npmnv2 warmup`` and ``npmnv2 bench``."""

from __future__ import annotations

import pytest

from npmnv2.cli.main import main


def test_warmup_says_that_the_kernels_are_ready(capsys, monkeypatch):
    monkeypatch.setattr("npmnv2.lab.bench.warmup", lambda n_threads, precision: f"ready: {n_threads}, {precision}")
    assert main(["warmup", "--threads", "2"]) == 0
    assert capsys.readouterr().out == "ready: 2, float32\n"
    assert main(["warmup", "--precision", "bf16"]) == 0
    assert capsys.readouterr().out == "ready: None, bf16\n"


@pytest.mark.parametrize(
    ("options", "call"),
    [([], (1, None)), (["--batch", "8", "--threads", "2"], (8, 2))],
)
def test_bench_prints_a_table(capsys, monkeypatch, options, call):
    monkeypatch.setattr("npmnv2.lab.bench.bench", lambda batch, n_threads: repr((batch, n_threads)))
    assert main(["bench", *options]) == 0
    assert capsys.readouterr().out == f"{call}\n"


@pytest.mark.parametrize("command", ["warmup", "bench"])
def test_impossible_threads(capsys, command):
    assert main([command, "--threads", "1000"]) == 1
    assert "n_threads (=1000)" in capsys.readouterr().err
