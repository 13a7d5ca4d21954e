"""Times an sLSTM as plain PyTorch computes it, step by step, beside bptt's, in turns, and prints a line
of JSON.

    benches/peers/python/slstm.py HIDDEN BATCH STEPS ROUNDS RNNBENCH

RNNBENCH is bptt's example of this name, in the release profile. Both have one thread, four heads, as
many inputs as units and a logistic forget gate. The equations are those that the authors' package
(Beck et al. 2024) has as its plain form, for machines without a GPU: the products with the inputs for
all steps at once, and then for each step a product for each head and the cell in element-wise
operations."""

import json
import sys

import torch
from torch.nn import functional

import beside


class Slstm(torch.nn.Module):
    """From `[T, B, I]` to `[T, B, H]`, from the state before any step."""

    def __init__(self, inputs, hidden, heads, **options):
        super().__init__()
        self.hidden, self.heads = hidden, heads
        self.inputs = torch.nn.Linear(inputs, 4 * hidden, **options)
        units = hidden // heads
        self.recurrent = torch.nn.Parameter(
            torch.empty(heads, units, 4 * units, **options).uniform_(-1, 1) / hidden**0.5
        )

    def forward(self, x):
        batch, units = x.shape[1], self.hidden // self.heads
        h, c, n, m = x.new_zeros(4, batch, self.hidden)
        outputs = []
        for step, of_input in enumerate(self.inputs(x)):
            by_head = h.view(batch, self.heads, units).transpose(0, 1)
            of_state = torch.bmm(by_head, self.recurrent).view(self.heads, batch, 4, units)
            of_state = of_state.permute(1, 2, 0, 3).reshape(batch, 4, self.hidden)
            i, f, z, o = (of_input.view(batch, 4, self.hidden) + of_state).unbind(1)
            kept = functional.logsigmoid(f) + m
            m = i if step == 0 else torch.maximum(i, kept)
            i, f = (i - m).exp(), (kept - m).exp()
            c = f * c + i * torch.tanh(z)
            n = f * n + i
            h = torch.sigmoid(o) * c / n
            outputs.append(h)
        return torch.stack(outputs)

    def unstabilised(self, x):
        """The equations without a stabiliser, unit by unit."""
        batch, units = x.shape[1], self.hidden // self.heads
        h, c, n = x.new_zeros(3, batch, self.hidden)
        outputs = []
        for of_input in self.inputs(x):
            of_state = torch.zeros_like(of_input)
            for head in range(self.heads):
                of_head = slice(head * units, (head + 1) * units)
                product = h[:, of_head] @ self.recurrent[head]
                for gate in range(4):
                    start = gate * self.hidden + head * units
                    of_state[:, start : start + units] = product[:, gate * units : (gate + 1) * units]
            i, f, z, o = (of_input + of_state).chunk(4, dim=-1)
            c = torch.sigmoid(f) * c + i.exp() * torch.tanh(z)
            n = torch.sigmoid(f) * n + i.exp()
            h = torch.sigmoid(o) * c / n
            outputs.append(h)
        return torch.stack(outputs)


def check():
    """The outputs and gradients are those of the equations without a stabiliser."""
    layer = Slstm(3, 8, 2, dtype=torch.float64)
    x = torch.randn(7, 2, 3, dtype=torch.float64)
    beside.same(layer, layer.unstabilised, layer, x)


def main(hidden, batch, steps, rounds, rnnbench):
    beside.one_thread()
    check()
    layer, x = Slstm(hidden, hidden, 4), torch.rand(steps, batch, hidden) * 2 - 1
    print(json.dumps(beside.compare(layer, layer, x, "slstm", rounds, rnnbench)))


main(*map(int, sys.argv[1:5]), sys.argv[5])
