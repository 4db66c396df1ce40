"""Files that are written: whole or not at all, and what is there already stays what it is."""

from __future__ import annotations

import errno
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from npmnv2.files import check_target, printable, sha256, write_atomically, write_directory

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX file systems")


def test_names_that_are_not_utf8_have_backslashes() -> None:
    assert printable("é\udcff\n") == "é\\udcff\n"


def write(path: Path, content: bytes = b"new") -> None:
    with write_atomically(path) as temporary:
        temporary.write_bytes(content)


def stop(path: Path, error: type[BaseException] = ValueError) -> None:
    path.write_bytes(b"half")
    raise error("stop")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target.bin"
    path.write_bytes(b"old")
    return path


def test_a_new_file(tmp_path):
    write(tmp_path / "target.bin")
    assert (tmp_path / "target.bin").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["target.bin"]


def test_an_existing_file_is_replaced_at_once(target):
    with write_atomically(target) as temporary:
        temporary.write_bytes(b"half")
        assert target.read_bytes() == b"old"
        assert temporary.parent == target.parent
        assert temporary.suffix == ".bin"
    assert target.read_bytes() == b"half"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_everything_as_it_was(target, error):
    with pytest.raises(error), write_atomically(target) as temporary:
        stop(temporary, error)
    assert target.read_bytes() == b"old"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("check", [check_target, write])
def test_impossible_targets(tmp_path, check):
    with pytest.raises(FileNotFoundError, match=r"absent/f must be in a folder that exists, got '.*absent'"):
        check(tmp_path / "absent" / "f")
    with pytest.raises(IsADirectoryError, match="must be a file to write, got a folder"):
        check(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_long_names(tmp_path):
    name = "é" * 120 + ".bin"
    write(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


# --- mode, owner and links --------------------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_new_file_has_ordinary_permissions(tmp_path, umask):
    before = os.umask(umask)
    try:
        write(tmp_path / "target.bin")
    finally:
        os.umask(before)
    assert mode(tmp_path / "target.bin") == 0o666 & ~umask


@posix
def test_no_setting_of_the_process_is_touched(target, monkeypatch):
    monkeypatch.setattr(os, "umask", lambda _: pytest.fail("umask is of all threads"))
    write(target)
    write(target.with_name("other.bin"))


@posix
@pytest.mark.parametrize("given", [0o600, 0o640, 0o755, 0o400])
def test_the_mode_is_kept(target, given):
    target.chmod(given)
    with write_atomically(target) as temporary:
        assert mode(temporary) == 0o600  # nobody else reads it in between
        temporary.write_bytes(b"new")
    assert mode(target) == given
    assert target.read_bytes() == b"new"


@posix
def test_the_owner_is_kept(target):
    try:
        os.chown(target, 12345, 54321)
    except PermissionError:
        pytest.skip("needs the right to give files away")
    target.chmod(0o604)
    write(target)
    assert (target.stat().st_uid, target.stat().st_gid, mode(target)) == (12345, 54321, 0o604)
    assert target.read_bytes() == b"new"


@posix
def test_an_owner_that_cannot_be_kept_keeps_the_file(target, monkeypatch):
    try:
        os.chown(target, 12345, 54321)
    except PermissionError:
        pytest.skip("needs the right to give files away")
    monkeypatch.setattr(os, "chown", _refuse)
    number = target.stat().st_ino
    write(target)
    assert (target.stat().st_ino, target.stat().st_uid) == (number, 12345)
    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]


def _refuse(*_: object) -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted")


@posix
def test_a_file_in_a_folder_that_takes_no_new_ones_is_written_to(target, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != target.parent)
    number = target.stat().st_ino
    write(target)
    assert target.stat().st_ino == number
    assert target.read_bytes() == b"new"


@posix
def test_links_are_followed(target, tmp_path):
    (tmp_path / "folder").mkdir()
    link = tmp_path / "folder" / "link.bin"
    link.symlink_to("../target.bin")
    write(link)
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert [path.name for path in link.parent.iterdir()] == ["link.bin"]


@posix
def test_a_link_to_nothing_makes_what_it_names(tmp_path):
    link = tmp_path / "link.bin"
    link.symlink_to("made.bin")
    write(link)
    assert link.is_symlink()
    assert (tmp_path / "made.bin").read_bytes() == b"new"


@posix
def test_links_that_lead_nowhere(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        write(tmp_path / "a")
    (tmp_path / "c").symlink_to("absent/c")
    with pytest.raises(FileNotFoundError, match="must be in a folder that exists"):
        write(tmp_path / "c")


@posix
def test_hard_links_stay_one_file(target):
    other = target.with_name("other.bin")
    os.link(target, other)
    write(target)
    assert other.read_bytes() == target.read_bytes() == b"new"
    assert target.samefile(other)
    assert sorted(target.parent.iterdir()) == [other, target]


@posix
def test_an_error_leaves_hard_links_as_they_were(target):
    os.link(target, target.with_name("other.bin"))
    with pytest.raises(ValueError, match="stop"), write_atomically(target) as temporary:
        stop(temporary)
    assert target.read_bytes() == b"old"


# --- what is not a regular file ---------------------------------------------------------------------------------------


@posix
def test_a_fifo_is_written_to(tmp_path):
    fifo = tmp_path / "fifo.bin"
    os.mkfifo(fifo)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_bytes()))
    reader.start()
    write(fifo, b"x" * 300_000)
    reader.join(30)
    assert read == [b"x" * 300_000]
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert list(tmp_path.iterdir()) == [fifo]


def node(path: Path, kind: int, device: int) -> Path:
    """A device of one's own: no test touches those of the system."""
    try:
        os.mknod(path, kind | 0o666, device)
        with path.open("rb" if kind == stat.S_IFBLK else "wb"):
            pass
    except (OSError, AttributeError) as error:
        if kind == stat.S_IFCHR or not path.exists():
            pytest.skip(f"needs the right to make devices: {error}")
    return path


@posix
@pytest.mark.parametrize("through_a_link", [False, True])
def test_a_null_device_stays_one(tmp_path, through_a_link):
    null = node(tmp_path / "null.bin", stat.S_IFCHR, os.makedev(1, 3))
    if through_a_link:
        (tmp_path / "link.bin").symlink_to("null.bin")
    write(tmp_path / "link.bin" if through_a_link else null)
    assert stat.S_ISCHR(null.stat().st_mode)
    assert null.stat().st_rdev == os.makedev(1, 3)


@posix
def test_a_full_device_is_an_error(tmp_path):
    full = node(tmp_path / "full.bin", stat.S_IFCHR, os.makedev(1, 7))
    with pytest.raises(OSError, match="No space left"):
        write(full)
    assert stat.S_ISCHR(full.stat().st_mode)
    assert list(tmp_path.iterdir()) == [full]


@posix
def test_disks_are_refused(tmp_path):
    # A device number that belongs to no driver, so that even a failure of this test could not write to one.
    disk = node(tmp_path / "disk.bin", stat.S_IFBLK, os.makedev(240, 77))
    with pytest.raises(OSError, match="must be a file to write, got a disk"):
        write(disk)
    assert stat.S_ISBLK(disk.stat().st_mode)


@posix
def test_sockets_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        with pytest.raises(OSError, match="must be a file to write, got a socket"):
            write(Path("s"))


# --- what killed processes leave --------------------------------------------------------------------------------------

_KILLED = """
import os, signal, sys
from npmnv2.files import write_atomically
with write_atomically(sys.argv[1]) as temporary:
    temporary.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@posix
def test_what_a_killed_process_left_is_removed_by_the_next(target):
    finished = subprocess.run([sys.executable, "-c", _KILLED, str(target)], check=False)
    assert finished.returncode == -signal.SIGKILL
    assert target.read_bytes() == b"old"
    assert len(list(target.parent.iterdir())) == 2
    write(target.with_name("other.bin"))
    assert sorted(path.name for path in target.parent.iterdir()) == ["other.bin", "target.bin"]


def test_what_others_are_writing_is_left_alone(target):
    with write_atomically(target) as first:
        first.write_bytes(b"first")
        write(target, b"second")
        assert first.exists()
    assert target.read_bytes() == b"first"


def test_files_of_other_machines_are_removed_after_a_day(target):
    # A process that does not run here may run there.
    foreign = target.with_name(".target.bin.npmnv2-0123abcd-99999999-0123abcd.bin")
    foreign.touch()
    write(target)
    assert foreign.exists()
    yesterday = time.time() - 25 * 3600
    os.utime(foreign, (yesterday, yesterday))
    write(target)
    assert not foreign.exists()


@pytest.mark.parametrize("name", [".target.bin.tmp", ".npmnv2-0123abcd-1-0123abcd", "x.npmnv2-0123abcd-1-0123abcd.bin"])
def test_files_of_other_programs_are_never_removed(target, name):
    other = target.with_name(name)
    other.write_bytes(b"")
    os.utime(other, (0, 0))
    write(target)
    assert other.exists()


# --- directories ------------------------------------------------------------------------------------------------------


def test_all_files_of_a_directory_or_none(tmp_path):
    folder = tmp_path / "folder"
    content = {"a": lambda path: path.write_bytes(b"a"), "b": lambda path: path.write_bytes(b"b")}
    write_directory(folder, content)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a": b"a", "b": b"b"}

    with suppress(ValueError):
        write_directory(folder, {"a": lambda path: path.write_bytes(b"new"), "b": stop})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a": b"a", "b": b"b"}
    with pytest.raises(ValueError, match="stop"):
        write_directory(tmp_path / "new", {"b": stop})
    assert not (tmp_path / "new").exists()


def test_sha256(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    assert sha256(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
