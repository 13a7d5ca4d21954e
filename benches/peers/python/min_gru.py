"""Times a minGRU as its authors compute it, beside bptt's, in turns, and prints a line of JSON.

    benches/peers/python/min_gru.py HIDDEN BATCH STEPS ROUNDS RNNBENCH

RNNBENCH is bptt's example of this name, in the release profile. The authors (Feng et al. 2024) find
all states at once in PyTorch: the logarithm of a state is a sum of logarithms of what was kept,
plus the logarithm of a sum of what has entered, for which there is `torch.logcumsumexp`. The
candidates are positive, so that they have logarithms. Both have one thread and as many inputs as
units."""

import json
import statistics
import subprocess
import sys
import time

import torch
from torch.nn import functional


def log_g(z):
    """ln g(z) of the g that makes candidates positive."""
    return torch.where(z >= 0, (functional.relu(z) + 0.5).log(), functional.logsigmoid(z))


class MinGru(torch.nn.Module):
    """From `[T, B, I]` and a positive state `[B, H]` to `[T, B, H]`."""

    def __init__(self, inputs, hidden, **options):
        super().__init__()
        self.products = torch.nn.Linear(inputs, 2 * hidden, **options)

    def forward(self, x, h):
        z, n = self.products(x).chunk(2, dim=-1)
        kept = torch.cumsum(functional.logsigmoid(-z), dim=0)
        entered = functional.logsigmoid(z) + log_g(n)
        before = functional.pad(kept, (0, 0, 0, 0, 1, 0))
        all = torch.cat([h.log()[None], entered]) - before
        return (kept + torch.logcumsumexp(all, dim=0)[1:]).exp()

    def stepwise(self, x, h):
        """The equations, one step after another."""
        z, n = self.products(x).chunk(2, dim=-1)
        states = []
        for z, n in zip(z, n):
            u = torch.sigmoid(z)
            h = (1 - u) * h + u * log_g(n).exp()
            states.append(h)
        return torch.stack(states)


def check():
    """The states and gradients are those of the equations."""
    layer = MinGru(3, 5, dtype=torch.float64)
    x, h = torch.randn(7, 2, 3, dtype=torch.float64), torch.rand(2, 5, dtype=torch.float64) + 0.1
    results = []
    for run in [layer, layer.stepwise]:
        y = run(x, h)
        gradients = torch.autograd.grad(y.square().sum(), list(layer.parameters()))
        results.append([y, *gradients])
    for own, other in zip(*results):
        assert torch.allclose(own, other, rtol=1e-9), "the scan is not what its equations say"


def timed(run):
    began = time.perf_counter()
    run()
    return (time.perf_counter() - began) * 1e3


def main(hidden, batch, steps, rounds, rnnbench):
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    torch.manual_seed(1)
    check()
    layer = MinGru(hidden, hidden)
    x = torch.rand(steps, batch, hidden) * 2 - 1
    h = torch.full((batch, hidden), 0.5)
    dy = torch.rand(steps, batch, hidden) * 2 - 1

    def infer():
        with torch.inference_mode():
            layer(x, h)

    inputs = x.clone().requires_grad_()

    def train():
        y = layer(inputs, h)
        torch.autograd.grad(y, [inputs, *layer.parameters()], dy)

    results = {"hidden": hidden, "batch": batch, "steps": steps}
    sizes = ["--input", hidden, "--hidden", hidden, "--batch", batch, "--steps", steps]
    for mode, run in [("infer", infer), ("train", train)]:
        run()
        given = ["--cell", "min-gru-positive", "--mode", mode, "--seconds", "1", "--json", *sizes]
        command = [rnnbench, *map(str, given)]
        theirs, own = [], []
        for _ in range(rounds):
            theirs.append(timed(run))
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            own.append(json.loads(said)["ms_median"])
        pairs = zip(theirs, own)
        results[mode] = {
            "torch_ms": statistics.median(theirs),
            "bptt_ms": statistics.median(own),
            "ratio": statistics.median(a / b for a, b in pairs),
        }
    print(json.dumps(results))


main(*map(int, sys.argv[1:5]), sys.argv[5])
