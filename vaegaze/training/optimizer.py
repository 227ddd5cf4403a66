"""AdamW that starts at once."""

from inspect import unwrap

import torch
from torch.optim import AdamW as PyTorchs


class AdamW(PyTorchs):
    """PyTorch's, without the import of torch._dynamo, which takes seconds.

    PyTorch's methods import it in wrappers that keep torch.compile out of them. Here no optimiser is compiled.
    """

    add_param_group = unwrap(PyTorchs.add_param_group)
    zero_grad = unwrap(PyTorchs.zero_grad)
    state_dict = unwrap(PyTorchs.state_dict)
    load_state_dict = unwrap(PyTorchs.load_state_dict)
    step = torch.no_grad()(unwrap(PyTorchs.step))  # its wrapper switches gradients off, too
