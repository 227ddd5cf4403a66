"""No file is ever half written, whatever fails."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from vaegaze import files
from vaegaze.errors import UserError
from vaegaze.files import atomic_path, occupied, probe_folder, read_text, remove_dead_temporaries, write_text

OS_CALLS = ("mkdir", "open", "close", "chmod", "fsync", "replace")  # what os offers of what writing a file takes


class FailingCalls:
    """Lets the n-th call into the operating system fail; n = 0 lets all pass."""

    def __init__(self, monkeypatch):
        self.fail_at, self.made = 0, []
        for name in OS_CALLS:
            monkeypatch.setattr(os, name, self.wrapped(name, getattr(os, name)))
        monkeypatch.setattr(files, "open", self.wrapped("file", open), raising=False)

    def wrapped(self, name, call):
        def failing(*args, **kwargs):
            self.made.append(name)
            fails = len(self.made) == self.fail_at
            if fails and name == "close":
                call(*args, **kwargs)  # as a real one that reports an error: the handle is gone
            if fails:
                raise OSError(errno.EIO, f"call {self.fail_at}, {name}")
            return call(*args, **kwargs)

        return failing

    def start(self, fail_at):
        self.fail_at, self.made = fail_at, []


@pytest.mark.parametrize("old", ["old", None], ids=["over a file", "anew"])
def test_each_os_call_may_fail(old, tmp_path, monkeypatch):
    calls = FailingCalls(monkeypatch)
    for n in range(1, 100):
        calls.start(fail_at=0)
        path = tmp_path / str(n) / "result.txt"
        if old is not None:
            path.parent.mkdir()
            path.write_text(old)
        calls.start(fail_at=n)
        try:
            write_text(path, "new")
            raised = False
        except OSError as error:
            assert error.errno == errno.EIO
            raised = True
        made = list(calls.made)
        calls.start(fail_at=0)
        found = path.read_text() if path.exists() else None
        if len(made) < n:  # nothing failed
            break
        assert raised or made[n - 1] == "mkdir", "only for a folder that is there already a failure does not matter"
        replaced = not raised or "replace" in made[: n - 1]
        assert found == ("new" if replaced else old), made
        assert [file.name for file in path.parent.glob("*")] == ([] if found is None else ["result.txt"]), made
    assert found == "new" and not raised
    assert {"open", "close", "file", "fsync", "replace"} <= set(made)
    assert made.index("fsync") < made.index("replace") < len(made) - 1, "data first, then the name, then the folder"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_in_the_block_leaves_the_old_file(error, tmp_path):
    path = tmp_path / "result.txt"
    write_text(path, "old")
    with pytest.raises(error), atomic_path(path) as temporary:
        temporary.write_text("half of the n")
        assert path.read_text() == "old" and temporary.parent == tmp_path and temporary.suffix == ".txt"
        raise error
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["result.txt"]


def test_an_error_about_the_temporary_file_names_the_final_one(tmp_path):
    with pytest.raises(OSError) as raised, atomic_path(tmp_path / "result.txt") as temporary:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(temporary))
    assert raised.value.filename == str(tmp_path / "result.txt")


def test_a_block_that_removes_its_file_fails_cleanly(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "result.txt") as temporary:
        temporary.unlink()
    assert os.listdir(tmp_path) == []


KILLED_WHILE_WRITING = (
    "import os, signal, sys\n"
    "from vaegaze.files import atomic_path\n"
    "with atomic_path(sys.argv[1]) as temporary:\n"
    "    temporary.write_text('half of the n')\n"
    "    os.kill(os.getpid(), signal.SIGKILL)\n"
)


def killed_while_writing(path: Path) -> None:
    root = Path(files.__file__).parents[1]
    process = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(path)], cwd=root, check=False)
    assert process.returncode == -9


def test_a_killed_process_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("old")
    killed_while_writing(path)
    assert path.read_text() == "old"


def test_what_a_killed_process_left_is_removed_by_the_next_one(tmp_path):
    path = tmp_path / "result.txt"
    killed_while_writing(path)
    assert len(os.listdir(tmp_path)) == 1
    write_text(path, "new")
    assert os.listdir(tmp_path) == ["result.txt"]


def test_only_files_of_dead_processes_of_this_machine_are_removed(tmp_path):
    with atomic_path(tmp_path / "result.txt") as temporary:
        prefix, pid, _ = temporary.name.rsplit("-", 2)
        dead = tmp_path / f"{prefix}-4194999-abcdefgh.txt"  # above the largest process id there can be
        kept = {
            temporary.name,
            ".vaegaze-00000000-4194999-abcdefgh.txt",  # of another machine
            f"{prefix}-{os.getppid()}-abcdefgh.txt",
            f"{prefix}-name.txt",
            ".result.txt",
            "result-4194999-abcdefgh.txt",
        }
        assert int(pid) == os.getpid()
        for name in kept:
            (tmp_path / name).touch()
        dead.symlink_to(tmp_path / ".result.txt")
        (tmp_path / f"{prefix}-4194999-probe").mkdir()
        remove_dead_temporaries(tmp_path)
        assert set(os.listdir(tmp_path)) == kept


OCCUPIES = (
    "import sys\n"
    "from pathlib import Path\n"
    "from vaegaze.files import occupied\n"
    "with occupied(Path(sys.argv[1])):\n"
    "    print('here', flush=True)\n"
    "    sys.stdin.read()\n"
)


def test_a_folder_that_another_process_writes_to(tmp_path):
    folder, root = tmp_path / "a" / "b", Path(files.__file__).parents[1]

    def start():
        command = [sys.executable, "-c", OCCUPIES, str(folder)]
        process = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"here\n"
        return process

    process = start()
    with pytest.raises(UserError, match=f"process {process.pid} is writing to"), occupied(folder):
        pass
    process.communicate()
    assert os.listdir(tmp_path) == [], "nothing was written, so nothing stays"
    process = start()
    process.kill()
    process.communicate()
    with occupied(folder):
        write_text(folder / "result.txt", "new")
        assert len(os.listdir(folder)) == 2
    assert os.listdir(folder) == ["result.txt"], "the killed one's mark is gone, too"


@pytest.mark.parametrize("address", ["s3://bucket/run", "https://example.org/run", "s3:/bucket/run"])
def test_an_address_is_no_place_to_write_to(address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="is an address"):
        write_text(f"{address}/a.txt", "new")
    with pytest.raises(UserError, match="is an address"):
        probe_folder(Path(address))
    with pytest.raises(UserError, match="is an address"), occupied(Path(address)):
        pass
    assert os.listdir(tmp_path) == []


def test_bytes_that_are_no_text_are_written_as_such(tmp_path):
    write_text(tmp_path / "a.txt", f"# {os.fsdecode(bytes([99, 0xE9]))} ü")
    assert (tmp_path / "a.txt").read_bytes() == "# c\\udce9 ü".encode()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes by name")
def test_a_pipe_in_the_place_of_a_text_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(OSError, match="Not a plain file"):
        read_text(tmp_path / "a.txt")


def test_probing_leaves_nothing(tmp_path):
    probe_folder(tmp_path / "a" / "b")
    assert os.listdir(tmp_path) == []
    remove_dead_temporaries(tmp_path / "not there")


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600), (0o027, 0o640)])
def test_permissions_respect_the_umask(umask, mode, tmp_path):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "result.txt", "new")
        assert os.umask(umask) == umask, "the umask itself is left as it was"
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "result.txt").stat().st_mode) == mode


def test_the_umask_is_kept_while_threads_write(tmp_path, monkeypatch):
    """It is the whole process's, and there is no way to read it without setting it."""
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("set"))
    write_text(tmp_path / "result.txt", "new")


def test_missing_folders_are_made(tmp_path):
    path = tmp_path / "a" / "b c" / "ré–sult.json"
    write_text(path, "{}")
    assert path.read_text() == "{}" and [file.name for file in path.parent.iterdir()] == [path.name]


def test_text_is_utf8(tmp_path):
    write_text(str(tmp_path / "result.txt"), "✅ −1\n")
    assert (tmp_path / "result.txt").read_bytes() == "✅ −1\n".encode()


def test_a_folder_in_the_way_is_an_error(tmp_path):
    (tmp_path / "result.txt").mkdir()
    with pytest.raises(OSError):
        write_text(tmp_path / "result.txt", "new")
    assert os.listdir(tmp_path) == ["result.txt"] and (tmp_path / "result.txt").is_dir()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG])
def test_where_there_was_no_room_is_said(number, tmp_path):
    with pytest.raises(OSError) as error, atomic_path(tmp_path / "result.txt"):
        raise OSError(number, os.strerror(number))  # as a file that is written to does, which knows no name
    assert error.value.filename == str(tmp_path / "result.txt")
    with pytest.raises(OSError) as error, atomic_path(tmp_path / "result.txt"):
        raise OSError(errno.EIO, "as when another file is read")
    assert error.value.filename is None
