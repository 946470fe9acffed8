"""Files that are not whole yet: names that no two processes share, found after a kill, left to who writes them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from p2pkit.errors import WriteError
from p2pkit.run_dir import RunDir
from p2pkit.utils.atomic import atomic_write, refuse_replacing, refuse_unwritable, remove_unfinished, unfinished

WRITING = """
import sys, time
from pathlib import Path
from p2pkit.utils.atomic import atomic_write
with atomic_write(Path(sys.argv[1])) as aside:
    aside.write_text("half")
    print(aside, flush=True)
    time.sleep(60)
"""


def names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_processes_of_one_id_write_one_file_without_seeing_each_other(tmp_path: Path) -> None:
    """As containers do, in each of which the program is process 1."""
    file = tmp_path / "model.safetensors"
    with atomic_write(file) as one, atomic_write(file) as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
        remove_unfinished(tmp_path.iterdir())
    assert file.read_text() == "one" and names_in(tmp_path) == [file.name]


def test_what_a_kill_has_left_is_removed_and_what_is_being_written_is_not(tmp_path: Path) -> None:
    writers = []
    for name in ("killed", "alive"):
        command = [sys.executable, "-c", WRITING, str(tmp_path / name)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        writers.append((writer, Path(writer.stdout.readline().strip())))
    (killed, left), (alive, aside) = writers
    try:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        remove_unfinished(list(tmp_path.iterdir()))
        assert not left.exists() and aside.read_text() == "half"
    finally:
        alive.kill()
        alive.wait()
    remove_unfinished(list(tmp_path.iterdir()))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name",
    [
        "notes.part",
        ".notes.part",
        ".part",
        "x.12ab.part",
        ".model.safetensors.part.txt",
        ".a.12ab.parts",
        ".a.xyz.part",
    ],
)
def test_what_others_call_otherwise_stays(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    RunDir(tmp_path).remove_unfinished()
    assert (tmp_path / name).read_text() == "mine"


def test_names_of_before_folders_links_and_pipes_are_removed_without_waiting(tmp_path: Path) -> None:
    kept = tmp_path.with_name("kept.txt")
    kept.write_text("kept")
    (tmp_path / ".model.safetensors.4711.part").write_text("half")
    (tmp_path / "checkpoints").mkdir()
    folder = unfinished(tmp_path / "checkpoints" / "step_00000002")
    folder.mkdir()
    (folder / "networks.safetensors").write_text("half")
    (tmp_path / ".link.12ab34cd.part").symlink_to(kept)
    os.mkfifo(tmp_path / ".pipe.12ab34cd.part")
    RunDir(tmp_path).remove_unfinished()
    assert names_in(tmp_path) == ["checkpoints"] and not list((tmp_path / "checkpoints").iterdir())
    assert kept.read_text() == "kept"


def test_what_a_kill_leaves_of_safetensors_is_removed_once_it_is_nobodys(tmp_path: Path) -> None:
    old, new, other = (tmp_path / name for name in (".tmpAb3dE9", ".tmpZZ3dE9", ".tmpnotes"))
    for file in (old, new, other):
        file.write_text("x")
    os.utime(old, (0, 0))
    os.utime(other, (0, 0))
    RunDir(tmp_path).remove_unfinished()
    assert names_in(tmp_path) == sorted([new.name, other.name])


def test_a_new_file_has_the_rights_that_the_system_gives(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with atomic_write(tmp_path / "written") as aside:
        aside.write_text("x")
    assert (tmp_path / "written").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("name", ["fifo", "link"])
def test_no_file_that_a_user_names_takes_the_place_of_what_is_none(name: str, tmp_path: Path) -> None:
    """As root nothing else keeps /dev/null from becoming a file."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "fifo")
    with pytest.raises(WriteError, match="a device, FIFO or socket is there"):
        refuse_replacing(tmp_path / name, [])
    with pytest.raises(WriteError, match="a device, FIFO or socket is there"):
        refuse_replacing(Path("/dev/stdout"), [])


@pytest.mark.parametrize("name", ["folder", "", ".", "file/below"])
def test_what_cannot_be_written_is_said_before_the_work(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("a file")
    before = names_in(tmp_path)
    with pytest.raises(WriteError, match="cannot write"), atomic_write(tmp_path / name):
        pytest.fail("the work that comes before has begun")
    with pytest.raises(WriteError, match="cannot write"):
        refuse_unwritable(tmp_path / name)
    assert names_in(tmp_path) == before


def test_asking_whether_a_file_can_be_written_leaves_it_alone(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("a file")
    refuse_unwritable(tmp_path / "there")
    refuse_unwritable(tmp_path / "new" / "one")
    assert (tmp_path / "there").read_text() == "a file" and names_in(tmp_path / "new") == []
