"""Frozen latents of a data set's frames, each computed once and kept in a file on disk."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vaegaze.data.persons import files_of
from vaegaze.errors import UserError
from vaegaze.files import refuse_address
from vaegaze.models import VAEGaze
from vaegaze.models.device import autocast
from vaegaze.pretraining.batches import Batch
from vaegaze.pretraining.losses import for_each_target
from vaegaze.pretraining.sources import DataSet

KINDS = 2  # of each frame: the masked picture's latents and its own


def latent_shape(model: VAEGaze) -> tuple[int, int, int]:
    halvings = len(model.vae.encoder.down_blocks) - 1
    height, width = model.canvas.shape
    return model.vae.post_quant_conv.in_channels, height >> halvings, width >> halvings


def cache_bytes(model: VAEGaze, frames: int) -> int:
    """The size of a full cache: half precision, and a byte a frame."""
    return frames * (KINDS * 2 * int(np.prod(latent_shape(model))) + 1)


class LatentCache:
    """Latents by frame number, in a file. Processes of one machine may share it: all write the same.

    The file's name is followed by a key over the autoencoder's weights, how eyes are masked, and the persons with their
    counts: another autoencoder, or other data under the same path, has another file.
    """

    def __init__(self, path: str, model: VAEGaze, frames: int, data_key: str):
        self.shape = latent_shape(model)
        self.path = Path(f"{path}.{_key(model, data_key)}")
        size = cache_bytes(model, frames)
        refuse_address(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        existing = self.path.stat().st_size if self.path.exists() else 0
        free = shutil.disk_usage(self.path.parent).free
        if existing != size and size > free:
            raise UserError(
                f"latent_cache: {self.path} grows to {size / 2**30:.1f} GB, but {free / 2**30:.1f} GB are free; "
                "give another place, or leave the cache out"
            )
        # Read and written, not mapped: a mapped file on a full disk, or one that is cut short, kills the process.
        self.path.touch()
        self._file = open(self.path, "r+b", buffering=0)  # noqa: SIM115, open as long as the run
        if existing != size:
            self._file.truncate(size)  # sparse: unwritten parts take no space
        self.bytes, self._row_bytes = size, (size - frames) // frames
        self._known_at = size - frames
        self.known = np.frombuffer(self._read(self._known_at, frames), np.uint8).copy()

    @torch.no_grad()
    def encode(self, model: VAEGaze, batch: Batch, *, with_target: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """As `losses.encode_batch`, from the cache if possible; missing latents are computed and stored."""
        gazes = batch.frames.shape[1] - 1
        targets, references = batch.frames[:, :gazes].flatten(), batch.frames[:, gazes]
        of_targets = self._latents(model, batch.target, batch.eye_masks, targets)
        of_references = self._latents(model, batch.reference, batch.reference_eye_masks, references)
        masked, reference = (each.to(batch.target.device).float() for each in (of_targets[:, 0], of_references[:, 1]))
        own = of_targets[:, 1].to(batch.target.device).float() if with_target else None
        return masked, for_each_target(reference, batch), own

    def _latents(self, model: VAEGaze, pictures: Tensor, eye_masks: Tensor, frames: Tensor) -> Tensor:
        """(N, KINDS, C, h, w) float16 on the CPU. One picture at a time, so that none depends on its batch."""
        latents = []
        for i, frame in enumerate(frames.tolist()):
            if self._is_known(frame):
                row = np.frombuffer(self._read(frame * self._row_bytes, self._row_bytes), np.float16)
                latents.append(torch.from_numpy(row.copy()).view(KINDS, *self.shape))
                continue
            picture, mask = pictures[i : i + 1], eye_masks[i : i + 1]
            both = torch.cat([model.mask(picture, mask), picture])
            with autocast(both.device.type, "fp32"):  # the same latents whatever precision the run computes in
                latents.append(model.encode(both).half().cpu())
            self._write(frame * self._row_bytes, latents[-1].contiguous().numpy().tobytes())
            self._write(self._known_at + frame, b"\1")
            self.known[frame] = 1
        return torch.stack(latents)

    def _is_known(self, frame: int) -> bool:
        """Also if another process has stored it meanwhile."""
        if not self.known[frame]:
            self.known[frame] = self._read(self._known_at + frame, 1)[0]
        return bool(self.known[frame])

    def _read(self, at: int, count: int) -> bytes:
        self._file.seek(at)
        content = self._file.read(count)
        if len(content) != count:
            raise UserError(f"latent_cache: {self.path} was cut short while it was in use; remove it and resume")
        return content

    def _write(self, at: int, content: bytes) -> None:
        """OSError, with the path, where the disk is full."""
        self._file.seek(at)
        left = memoryview(content)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            error.filename = str(self.path)
            raise


def _key(model: VAEGaze, data_key: str) -> str:
    digest = hashlib.sha256(
        json.dumps([data_key, model.fill_eyes, vars(model.canvas), model.vae.scaling_factor]).encode()
    )
    for name, tensor in model.vae.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy())
    return digest.hexdigest()[:16]


def _stamps(path: str) -> list[tuple[str, int, int]]:
    """Name, size and time of change of a data set's files: after a change they are other data."""
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files_of(path)]


def open_latent_cache(path: str, model: VAEGaze, sources: Sequence[DataSet]) -> LatentCache:
    """The cache for these data sets' training frames. UserError where the disk is too small for it."""
    persons = [
        [source.name, _stamps(source.name), [[i, source.split.counts[i]] for i in source.split.train]]
        for source in sources
    ]
    key = hashlib.sha256(json.dumps(persons).encode("utf-8", "surrogateescape")).hexdigest()
    return LatentCache(path, model, sum(source.train_frames for source in sources), key)
