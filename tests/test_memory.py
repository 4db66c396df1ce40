"""What the commands ask of the C library."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from npmnv2 import memory

FAULTS = """
import resource
import numpy as np
from npmnv2.memory import keep_freed_memory
assert keep_freed_memory()
def fill():
    for _ in range(50):
        pieces = [np.ones(4 << 20, np.uint8) for _ in range(4)]
fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_memory_is_fetched_once() -> None:
    run = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 4096, "pages of one round, of fifty"


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_other_systems_have_no_such_setting(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def without(_: None) -> None:
        raise error

    monkeypatch.setattr(memory.ctypes, "CDLL", without)
    assert memory.keep_freed_memory() is False
