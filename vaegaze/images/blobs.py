"""The connected parts of a mask, from the runs in its rows: cheap even for a mask of a hundred million pixels."""

import numpy as np


def find_blobs(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Connected parts (eight neighbours) of a mask (H, W) bool, the largest first.

    Returns areas (K,) in pixels and centroids (K, 2) as x, y.
    """
    starts, ends, stride = _runs(mask)
    blob_of_run = _join(starts, ends, stride)
    lengths = ends - starts
    columns = (starts % stride + ends % stride) / 2 - 1  # the padded row begins with one empty pixel
    rows = starts // stride + 0.5
    areas = np.bincount(blob_of_run, weights=lengths)
    sums = np.stack([np.bincount(blob_of_run, weights=lengths * at) for at in (columns, rows)], axis=1)
    order = np.argsort(-areas, kind="stable")
    return areas[order].astype(np.int64), (sums / np.maximum(areas, 1)[:, None])[order]


def without_specks(mask: np.ndarray, min_area: float) -> np.ndarray:
    """The mask without its connected parts of fewer than `min_area` pixels."""
    starts, ends, stride = _runs(mask)
    blob_of_run = _join(starts, ends, stride)
    kept = np.bincount(blob_of_run, weights=ends - starts)[blob_of_run] >= min_area
    steps = np.zeros(mask.shape[0] * stride, dtype=np.int8)
    steps[starts[kept]], steps[ends[kept]] = 1, -1
    return np.cumsum(steps, dtype=np.int8).astype(bool).reshape(-1, stride)[:, 1:-1]


def _runs(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Starts and ends (exclusive) of each row's runs of True, flattened, with a column added on each side."""
    padded = np.pad(mask, ((0, 0), (1, 1))).ravel().view(np.int8)
    steps = np.diff(padded, prepend=np.int8(0))
    return np.flatnonzero(steps == 1), np.flatnonzero(steps == -1), mask.shape[1] + 2


def _join(starts: np.ndarray, ends: np.ndarray, stride: int) -> np.ndarray:
    """Each run's blob number: runs of neighbouring rows that touch, even at a corner, are one blob."""
    first = np.searchsorted(ends, starts + stride, side="left")  # runs of the next row that end here or later …
    beyond = np.searchsorted(starts, ends + stride, side="right")  # … and begin no later than this one ends
    counts = np.maximum(beyond - first, 0)
    above = np.repeat(np.arange(len(starts)), counts)
    below = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)

    label = np.arange(
        len(starts)
    )  # each run takes the least label that it touches, then that label's own, until nothing changes
    while True:
        least = label.copy()
        np.minimum.at(least, above, label[below])
        np.minimum.at(least, below, label[above])
        least = least[least]
        if (least == label).all():
            return np.unique(label, return_inverse=True)[1]
        label = least
