"""Ctrl-C at any moment: the next prediction is right."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from children import run_python
from engines import require_engine

require_engine()

# Children are forked from a process in which everything is loaded: each begins without threads, so its first call
# starts them, and the signal comes at a random moment of the first calls.
SCRIPT = """
import os, random, signal
import numpy as np
from npmnv2.lab.random_weights import unit_gain_weights
from npmnv2 import MobileNetV2Config, MobileNetV2ForImageClassification

config = MobileNetV2Config(depth_multiplier=0.35, image_size=64, num_labels=10)
weights = unit_gain_weights(MobileNetV2ForImageClassification.build(config))
model = MobileNetV2ForImageClassification(config, weights, n_threads=3)
images = np.random.default_rng(0).uniform(-1, 1, (4, 64, 64, 3)).astype(np.float32)

def predict(count):
    return model(images[:count], data_format="channels_last").logits.tobytes()

expected = {count: predict(count) for count in (1, 2, 4)}

def child(seed):
    moment = random.Random(seed)
    try:
        signal.setitimer(signal.ITIMER_REAL, 10 ** moment.uniform(-5, -1.5))
        while True:
            predict(moment.choice((1, 2, 4)))
    except KeyboardInterrupt:
        pass
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(60)  # ends a child that hangs
    right = all(predict(count) == logits for count, logits in expected.items() for _ in range(3))
    os._exit(0 if right else 1)

def stop(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, stop)
failed = []
for seed in range(INTERRUPTS):
    pid = os.fork()
    if pid == 0:
        try:
            child(seed)
        finally:
            os._exit(2)
    if status := os.waitpid(pid, 0)[1]:
        failed.append((seed, os.waitstatus_to_exitcode(status)))
print(failed)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
@pytest.mark.parametrize("interrupts", [50, pytest.param(500, marks=pytest.mark.slow)])
def test_predictions_after_an_interrupt(tmp_path: Path, interrupts: int) -> None:
    assert run_python(SCRIPT.replace("INTERRUPTS", str(interrupts)), tmp_path, timeout=600) == "[]"
