"""The cache of compiled kernels: found again, never wrong, and never in the way."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("numba")

from npmnv2.kernels.device import jit
from npmnv2.kernels.device.jit import njit

import npmnv2
from npmnv2 import kernels

CALLEE = """
from npmnv2.kernels.device.jit import njit

@njit(cached=False)
def callee(x):
    return x + 1
"""
CALLER = """
from npmnv2.kernels.device.jit import njit
from npmnv2.kernels.device.callee import callee

@njit
def caller(values, index):
    return callee(values[index])

def _make(factor):
    @njit(variant=f"x{factor}")
    def scaled(x):
        return factor * x
    return scaled

twice, thrice = _make(2), _make(3)
"""
SCRIPT = """
import numpy as np
from npmnv2.kernels.device.caller import caller, twice, thrice

try:
    print(caller(np.arange(3.0), 2), caller(np.arange(3), 7 if CHECKED else 1), twice(5), thrice(5))
except IndexError:
    print("IndexError")
print(*(sum(f.stats.cache_hits.values()) for f in (caller, twice, thrice)))
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package, which tests may change, with two small modules of kernels."""
    folder = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(npmnv2.__file__).parent, folder / "npmnv2", ignore=ignored)
    # In a checkout the kernels lie elsewhere.
    shutil.copytree(Path(kernels.__file__).parent, folder / "npmnv2" / "kernels", ignore=ignored, dirs_exist_ok=True)
    device = folder / "npmnv2" / "kernels" / "device"
    (device / "callee.py").write_text(CALLEE)
    (device / "caller.py").write_text(CALLER)
    return folder


def _start(package: Path, home: Path | str, checked: bool = False, **environment: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(package), "XDG_CACHE_HOME": str(home), **environment}
    environment.pop("NUMBA_CACHE_DIR", None) if "NUMBA_CACHE_DIR" not in environment else None
    return subprocess.Popen(
        [sys.executable, "-c", f"CHECKED = {checked}\n{SCRIPT}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=package.parent,  # the current folder comes before PYTHONPATH
    )


def _finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Return the two lines that the script prints: results, and how many functions came from the cache."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    results, hits = out.splitlines()
    return results, hits


def _run(package: Path, home: Path | str, checked: bool = False, **environment: str) -> tuple[str, str]:
    return _finish(_start(package, home, checked, **environment))


RESULTS = "3.0 2 10 15"
COMPILED, CACHED = "0 0 0", "2 1 1"


@pytest.fixture(scope="module")
def filled(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("filled")
    assert _run(package, home) == (RESULTS, COMPILED)
    return home


@pytest.fixture
def warm_home(filled: Path, tmp_path: Path) -> Path:
    """A cache that holds all functions of the script."""
    return Path(shutil.copytree(filled, tmp_path / "home"))


def _files(home: Path) -> list[Path]:
    return sorted(home.glob("npmnv2/kernels/*/*.bin"))


def test_next_process_finds_the_code(package: Path, warm_home: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in _files(warm_home)}
    assert len(before) == 4
    assert _run(package, warm_home) == (RESULTS, CACHED)
    assert {file: file.stat().st_mtime_ns for file in _files(warm_home)} == before


def _truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _one_bit_flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def _well_signed_nonsense(_: bytes) -> bytes:
    import hashlib

    return hashlib.sha256(b"nonsense").digest() + b"nonsense"


@pytest.mark.parametrize("damage", [_truncated, _one_bit_flipped, _well_signed_nonsense, lambda _: b""])
def test_damaged_files_are_compiled_anew(package: Path, warm_home: Path, damage: object) -> None:
    for file in _files(warm_home):
        file.write_bytes(damage(file.read_bytes()))  # type: ignore[operator]
    assert _run(package, warm_home) == (RESULTS, COMPILED)
    assert _run(package, warm_home) == (RESULTS, CACHED)


def test_a_change_of_a_called_function_compiles_anew(package: Path, warm_home: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(package, tmp_path / "changed"))
    (changed / "npmnv2" / "kernels" / "device" / "callee.py").write_text(CALLEE.replace("x + 1", "x + 100"))
    assert _run(changed, warm_home) == ("102.0 101 10 15", COMPILED)


@pytest.mark.parametrize("file", ["device/simd.py", "host/steps.py", "types.py"])
def test_a_change_of_any_source_compiles_anew(package: Path, warm_home: Path, tmp_path: Path, file: str) -> None:
    """Layouts and constants of any module of the kernels may be part of the code."""
    changed = Path(shutil.copytree(package, tmp_path / "changed"))
    with open(changed / "npmnv2" / "kernels" / file, "a") as source:
        source.write("\n# changed\n")
    assert _run(changed, warm_home) == (RESULTS, COMPILED)


def test_settings_of_numba_compile_anew(package: Path, warm_home: Path) -> None:
    assert _run(package, warm_home, checked=True, NUMBA_BOUNDSCHECK="1")[0] == "IndexError"
    assert _run(package, warm_home, NUMBA_OPT="1") == (RESULTS, COMPILED)


def test_other_processors_compile_anew(package: Path, warm_home: Path) -> None:
    assert _run(package, warm_home, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="") == (RESULTS, COMPILED)
    assert _run(package, warm_home) == (RESULTS, CACHED)


def test_processes_that_fill_the_cache_at_once(package: Path, tmp_path: Path) -> None:
    started = [_start(package, tmp_path) for _ in range(3)]
    assert {_finish(process)[0] for process in started} == {RESULTS}
    assert _run(package, tmp_path) == (RESULTS, CACHED)


def test_runs_from_a_zip_file(package: Path, tmp_path: Path) -> None:
    archive = tmp_path / "package.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in package.rglob("*.py"):
            file.write(path, path.relative_to(package))
    assert _run(archive, tmp_path) == (RESULTS, COMPILED)
    assert _run(archive, tmp_path) == (RESULTS, CACHED)


def test_runs_without_a_place_for_a_cache(package: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for _ in range(2):
        assert _run(package, tmp_path / "file") == (RESULTS, COMPILED)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    """No settings, and an empty home."""
    for name in ("NPMNV2_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(jit.config, "CACHE_DIR", "")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "user")
    jit.cache_folder.cache_clear()
    yield monkeypatch
    jit.cache_folder.cache_clear()


def test_folder_follows_the_settings(folder: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def chosen() -> Path:
        jit.cache_folder.cache_clear()
        place = jit.cache_folder()
        assert place is not None
        return place.parent

    assert chosen().is_relative_to(tmp_path / "user")
    folder.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert chosen() == tmp_path / "xdg" / "npmnv2" / "kernels"
    folder.setenv("NPMNV2_HOME", str(tmp_path / "copied"))  # meant to be copied: no place for code
    assert chosen() == tmp_path / "xdg" / "npmnv2" / "kernels"
    folder.setattr(jit.config, "CACHE_DIR", str(tmp_path / "numba"))
    assert chosen() == tmp_path / "numba" / "npmnv2"


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs owners and modes")
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_folder_that_others_can_write_to_is_not_used(folder: pytest.MonkeyPatch, mode: int) -> None:
    place = jit.cache_folder()
    assert place is not None
    assert place.stat().st_mode & 0o777 == 0o700
    place.chmod(mode)
    jit.cache_folder.cache_clear()
    assert jit.cache_folder() is None


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs owners and modes")
def test_a_folder_of_another_user_is_not_used(folder: pytest.MonkeyPatch) -> None:
    owner = jit.cache_folder()
    assert owner is not None
    folder.setattr(os, "geteuid", lambda: owner.stat().st_uid + 1)
    jit.cache_folder.cache_clear()
    assert (jit.cache_folder() is not None) == (owner.stat().st_uid == 0)  # root's is trusted
    folder.setattr(jit, "_is_own", lambda about: False)
    jit.cache_folder.cache_clear()
    assert jit.cache_folder() is None


def test_who_is_trusted() -> None:
    def about(uid: int, mode: int) -> os.stat_result:
        return os.stat_result((mode, 0, 0, 1, uid, 0, 0, 0, 0, 0))

    me = os.geteuid()
    assert jit._is_own(about(me, 0o100644))
    assert jit._is_own(about(0, 0o100644))
    assert not jit._is_own(about(me + 1, 0o100644))
    assert not jit._is_own(about(me, 0o100664))
    assert not jit._is_own(about(me, 0o100602))


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs owners and modes")
def test_files_that_others_can_write_to_are_compiled_anew(package: Path, warm_home: Path) -> None:
    for file in _files(warm_home):
        file.chmod(0o666)
    assert _run(package, warm_home) == (RESULTS, COMPILED)
    assert _run(package, warm_home) == (RESULTS, CACHED)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs owners and modes")
def test_what_is_written_is_this_users_own_under_any_umask(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        jit._write_own(tmp_path / "code.bin", b"code")
    finally:
        os.umask(before)
    assert jit._read_own(tmp_path / "code.bin") == b"code"
    assert [file.name for file in tmp_path.iterdir()] == ["code.bin"]


def test_a_copied_home_runs_no_code(package: Path, warm_home: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(warm_home / "npmnv2", copied)
    assert _run(package, tmp_path / "empty", NPMNV2_HOME=str(copied)) == (RESULTS, COMPILED)


def test_user_without_a_home(folder: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    folder.setattr(Path, "home", no_home)
    assert jit.cache_folder() is None


def test_folders_of_old_versions_are_removed(folder: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder.setenv("XDG_CACHE_HOME", str(tmp_path))
    old, recent = (tmp_path / "npmnv2" / "kernels" / name for name in ("old", "recent"))
    for place, days in ((old, 91), (recent, 89)):
        place.mkdir(parents=True)
        os.utime(place, (time.time() - days * 86400,) * 2)
    assert jit.cache_folder() is not None
    assert not old.exists()
    assert recent.exists()


def test_a_factory_must_name_its_variants() -> None:
    def make(factor: int, variant: str) -> object:
        @njit(variant=variant)
        def scaled(x):  # type: ignore[no-untyped-def]
            return factor * x

        return scaled

    make(2, "a")
    make(3, "b")
    with pytest.raises(ValueError, match=r"variant \(='a'\) must differ between the functions made by .*scaled"):
        make(4, "a")
