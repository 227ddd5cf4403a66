"""Writing a data file: a person's frames in the upstream layout, one sample after another."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py


@contextmanager
def new_file(path: str | Path) -> Iterator[h5py.File]:
    """A new HDF5 file, open for writing. OSError, with the path, if the system refuses something, as on a full disk."""
    disk = _Disk(path)
    try:
        with h5py.File(disk, "w") as file:
            yield file
            disk.is_closing = True
    except BaseException as error:
        if disk.error is not None:
            raise disk.error from error
        raise
    finally:
        disk.close()
    if disk.error is not None:
        raise disk.error


def create_frames(group: h5py.Group, count: int, size_px: int) -> tuple[h5py.Dataset, h5py.Dataset]:
    """Datasets for `count` frames: `pixels` (count, S, S, 3) and `face_parsing` (count, S, S), one chunk per sample.

    Rows never written take no space; `resize` drops them.
    """
    shape = (size_px, size_px)
    pixels = group.create_dataset("pixels", (count, *shape, 3), "u1", chunks=(1, *shape, 3), compression="lzf")
    parsing = group.create_dataset("face_parsing", (count, *shape), "u1", chunks=(1, *shape), compression="lzf")
    return pixels, parsing


class _Disk(io.RawIOBase):
    """What HDF5 writes to, in place of the file itself.

    Where the system refuses a write, HDF5 cannot close the file any more, and the process ends in a segmentation fault.
    So the first error stands in `error`, and HDF5 hears of it only while the file is filled; afterwards nothing fails.
    """

    def __init__(self, path: str | Path):
        self._file = open(path, "wb+", buffering=0)  # noqa: SIM115, closed by `close`
        self._path, self.error, self.is_closing = path, None, False

    def write(self, data) -> int:
        left = memoryview(data)
        while left and self.error is None:
            left = left[self._try(self._file.write, left) or 0 :]
        return len(data)

    def readinto(self, buffer) -> int:
        """Fill a buffer, as HDF5 asks for once a file outgrows its caches; with zeros beyond the file's end."""
        left = memoryview(buffer)
        while left and (count := self._try(self._file.readinto, left)):
            left = left[count:]
        left[:] = bytes(len(left))
        return len(buffer)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def truncate(self, size: int | None = None) -> int:
        self._try(self._file.truncate, size)
        return size

    def close(self) -> None:
        self._file.close()
        super().close()

    def _try(self, call, *args):
        if self.error is not None:
            return None
        try:
            return call(*args)
        except OSError as error:
            self.error = OSError(error.errno, error.strerror, str(self._path))
            if not self.is_closing:
                raise self.error from error
            return None
