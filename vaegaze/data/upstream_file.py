"""Writing a person's frames in the upstream layout, one sample after another."""

import h5py


def create_frames(group: h5py.Group, count: int, size_px: int) -> tuple[h5py.Dataset, h5py.Dataset]:
    """Datasets for `count` frames: `pixels` (count, S, S, 3) and `face_parsing` (count, S, S), one chunk per sample.

    Rows never written take no space; `resize` drops them.
    """
    shape = (size_px, size_px)
    pixels = group.create_dataset("pixels", (count, *shape, 3), "u1", chunks=(1, *shape, 3), compression="lzf")
    parsing = group.create_dataset("face_parsing", (count, *shape), "u1", chunks=(1, *shape), compression="lzf")
    return pixels, parsing
