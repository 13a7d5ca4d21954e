"""Times training passes of PyTorch's LSTM, in whole or in chunks whose activations are computed again
(`torch.utils.checkpoint`), and prints a line of JSON with the seconds and the memory of a pass."""

import json
import sys
import time

import torch
from torch.utils.checkpoint import checkpoint


def main(hidden, batch, steps, chunk, passes):
    """A pass computes the gradients of all parameters; with chunk = 0 it is not divided."""
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    torch.manual_seed(1)
    layer = torch.nn.LSTM(hidden, hidden)
    x = torch.rand(steps, batch, hidden) * 2 - 1
    dy = torch.rand(steps, batch, hidden) * 2 - 1
    parameters = list(layer.parameters())

    def run(x, dy, chunk):
        if not chunk:
            y, _ = layer(x)
            return torch.autograd.grad(y, parameters, dy)
        zeros = torch.zeros(1, batch, hidden)
        state, outputs = (zeros, zeros), []
        for part in x.split(chunk):
            y, state = checkpoint(layer, part, state, use_reentrant=False)
            outputs.append(y)
        return torch.autograd.grad(outputs, parameters, dy.split(chunk))

    # A short pass, so that the program's own memory has been allocated.
    run(x[:4], dy[:4], min(chunk, 2))
    before = status("VmRSS")
    seconds = []
    for _ in range(passes):
        began = time.perf_counter()
        run(x, dy, chunk)
        seconds.append(time.perf_counter() - began)
    print(json.dumps({"seconds": seconds, "bytes": status("VmHWM") - before}))


def status(name):
    """Bytes of this process's memory, as Linux counts them: VmRSS now, VmHWM at most so far."""
    with open("/proc/self/status") as lines:
        line = next(line for line in lines if line.startswith(name))
    return int(line.split()[1]) * 1024


main(*map(int, sys.argv[1:]))
