"""Results to show, whose names are hostile."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from browser import Page, browser

from npmnv2.lab.comparison import Comparison, Finding, compare_traces
from npmnv2.results.profile import Profile, Timing

HOSTILE = '</script><img src=x onerror="document.title=1">&amp;"\'<b>'


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("chromium")) as page:
        yield page


@pytest.fixture
def comparison() -> Comparison:
    rng = np.random.default_rng(0)
    names = ["Conv1", "block_1", "block_2", HOSTILE, "pool"]
    reference = {name: rng.normal(size=(1, 9, 7, 4)) for name in names[:-1]}
    reference["pool"] = rng.normal(size=(1, 4))
    sizes = (0, 1e-6, 1e-2, 1e-4, 1e-5)
    other = {name: value + size * rng.normal(size=value.shape) for size, (name, value) in zip(sizes, reference.items())}
    return Comparison(
        "/home/me/a.h5",
        HOSTILE,
        compare_traces(reference, other),
        (Finding("padding", "block_2", f"shifted {HOSTILE}", {"error_before": 0.5, "what": HOSTILE}),),
        (HOSTILE, "left"),
        remarks=(HOSTILE,),
        environment={"python": "3.11", HOSTILE: HOSTILE},
        image=rng.uniform(-1, 1, (64, 48, 3)),
    )


@pytest.fixture
def profile() -> Profile:
    return Profile([Timing("Conv1", 0.002, 10_000_000, (0.001, 0.002)), Timing(HOSTILE, 0.006, 5_000_000, (0.006, 0))])
