"""Times a minGRU as its authors compute it, beside bptt's, in turns, and prints a line of JSON.

    benches/peers/python/min_gru.py HIDDEN BATCH STEPS ROUNDS RNNBENCH

RNNBENCH is bptt's example of this name, in the release profile. The authors (Feng et al. 2024) find
all states at once in PyTorch: the logarithm of a state is a sum of logarithms of what was kept,
plus the logarithm of a sum of what has entered, for which there is `torch.logcumsumexp`. The
candidates are positive, so that they have logarithms. Both have one thread and as many inputs as
units."""

import json
import sys

import torch
from torch.nn import functional

import beside


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
    beside.same(lambda x: layer(x, h), lambda x: layer.stepwise(x, h), layer, x)


def main(hidden, batch, steps, rounds, rnnbench):
    beside.one_thread()
    check()
    layer, h = MinGru(hidden, hidden), torch.full((batch, hidden), 0.5)
    x = torch.rand(steps, batch, hidden) * 2 - 1
    results = beside.compare(layer, lambda x: layer(x, h), x, "min-gru-positive", rounds, rnnbench)
    print(json.dumps(results))


main(*map(int, sys.argv[1:5]), sys.argv[5])
