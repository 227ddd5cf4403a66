"""A data file that the system refuses to write: an error and nothing worse, whichever call fails."""

import errno
import io
import os

import h5py
import numpy as np
import pytest

from vaegaze.data import upstream_file
from vaegaze.data.upstream_file import create_frames, new_file


def write_frames(path) -> None:
    rng = np.random.default_rng(0)
    with new_file(path) as file:
        pixels, parsing = create_frames(file.create_group("me"), 6, 16)
        for row in range(4):
            pixels[row], parsing[row] = rng.integers(0, 256, (16, 16, 3)), row
        for dataset in (pixels, parsing):
            dataset.resize(4, axis=0)
        file["me/labels"] = np.zeros((4, 4), "f4")


@pytest.mark.parametrize("stays", [True, False], ids=["from then on", "once"])
def test_every_write_may_fail(stays, tmp_path, monkeypatch):
    """HDF5 would end the process, at the latest when it exits."""
    write_frames(tmp_path / "whole.h5")
    calls = {"made": 0, "fails": 0}

    class FailingFile:
        def __init__(self, path, mode, buffering):
            self._file = open(path, mode, buffering=buffering)  # noqa: SIM115

        def __getattr__(self, name):
            call = getattr(self._file, name)
            return self._failing(call) if name in ("readinto", "write", "truncate") else call

        def _failing(self, call):
            def failing(*args):
                calls["made"] += 1
                if calls["made"] == calls["fails"] or (stays and calls["made"] > calls["fails"] > 0):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return call(*args)

            return failing

    monkeypatch.setattr(upstream_file, "open", FailingFile, raising=False)
    for fails in range(1, 1000):
        calls.update(made=0, fails=fails)
        try:
            write_frames(tmp_path / "a.h5")
        except OSError as error:
            assert (error.errno, error.filename) == (errno.ENOSPC, str(tmp_path / "a.h5"))
        else:
            break
    assert calls["made"] < fails and fails > 10
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_hdf5_may_read_what_was_written(tmp_path):
    """As it does with a file of more persons than its caches hold."""
    shape = (256, 128, 128, 3)  # 12 MB; HDF5 keeps 1 MB of chunks, and 8 MB since 2.0
    frames = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with new_file(tmp_path / "a.h5") as file:
        pixels, _ = create_frames(file.create_group("me"), len(frames), shape[1])
        for row, frame in enumerate(frames):
            pixels[row] = frame
        assert np.array_equal(pixels[:], frames)


def test_what_hdf5_reads_is_whole_or_zero(tmp_path):
    """It takes any answer for a full one."""

    class Slow(io.BytesIO):
        def readinto(self, buffer):
            return super().readinto(memoryview(buffer)[:3])

    disk, buffer = upstream_file._Disk(tmp_path / "a.h5"), bytearray(b"x" * 12)
    disk._file.close()
    disk._file = Slow(b"0123456789")
    assert disk.readinto(buffer) == 12 and buffer == b"0123456789\0\0"


def test_another_error_is_not_replaced(tmp_path):
    with pytest.raises(ZeroDivisionError), new_file(tmp_path / "a.h5") as file:
        file["a"] = 1 / 0
    with h5py.File(tmp_path / "a.h5") as file:
        assert not list(file)
