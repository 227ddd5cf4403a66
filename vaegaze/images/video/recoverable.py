"""A file in the making that can be finished when the disk is full."""

import os
import tempfile
from pathlib import Path

RESERVE_BYTES, RESERVE_PER_FRAME_BYTES = 8 * 2**20, 160  # the encoder's last frames, and an index written twice
MOST_FRAMES = 500_000  # that are reserved for: a damaged file may state any number


class RecoverableFile:
    """What a muxer writes to. It keeps some of the disk for the end.

    The first error that the system reports stands in `error` and frees the reserve; the muxer, which would give up for
    good, never sees it. What cannot be written even then is skipped, and `is_whole` is False.
    """

    def __init__(self, path: Path, frame_count: int):
        self.name, self.error, self.is_whole = str(path), None, True
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115, closed by `close`
        self._reserve = tempfile.TemporaryFile(dir=path.parent, buffering=0)  # noqa: SIM115
        try:
            left = RESERVE_BYTES + RESERVE_PER_FRAME_BYTES * min(frame_count, MOST_FRAMES)
            while left > 0:
                left -= self._reserve.write(bytes(min(left, 2**20)))
        except OSError:
            self.close()
            raise

    def write(self, data) -> int:
        left = memoryview(data)
        while left:
            try:
                left = left[self._put(left) :]
            except OSError as error:
                if self.error is None:
                    self.error = error
                    self._reserve.close()
                else:
                    self.is_whole = False
                    self._file.seek(len(left), os.SEEK_CUR)
                    break
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._reserve.close()
        self._file.close()

    def _put(self, data) -> int:
        return self._file.write(data)
