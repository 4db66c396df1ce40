"""What `npmnv2 info` says of the installation."""

from __future__ import annotations

import json

import numpy as np
import pytest
from engines import BACKENDS

from npmnv2.lab.environment import environment


def test_facts_are_of_this_process() -> None:
    facts = environment()
    assert facts["backend"] == BACKENDS[-1]
    assert facts["numpy"] == np.__version__
    assert json.loads(json.dumps(facts)) == facts


def test_threads_follow_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPMNV2_NUM_THREADS", "3")
    assert environment()["threads"] == 3
    monkeypatch.setenv("NPMNV2_NUM_THREADS", "none")
    assert "NPMNV2_NUM_THREADS (=none) must be" in str(environment()["threads"])


def test_an_engine_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPMNV2_ENGINE", "numpy")
    facts = environment()
    assert facts["backend"] == "numpy"
    assert "engine" not in facts


def test_a_wrong_engine_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPMNV2_ENGINE", "fastest")
    assert "NPMNV2_ENGINE (=fastest) must be one of numpy, numba" in str(environment()["backend"])
