"""PyTorch on the CPU: `torch.nn.LSTM`, `GRU` and `RNN`, and autograd in training. With the argument
`packed` or `padded` it takes sequences of different lengths, in that way."""

import sys

import torch
from protocol import Unsupported, serve
from pytorch_network import LAYERS, Network
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class PyTorch:
    """Sequences of one length."""

    ragged = False

    def __init__(self, problem):
        if self.ragged != (problem.lengths is not None):
            kind = "different lengths" if self.ragged else "one length"
            raise Unsupported(f"is for sequences of {kind}")
        torch.set_num_threads(problem.threads)
        self.training = problem.mode == "train"
        self.hidden = problem.hidden
        self.lengths = torch.tensor(problem.lengths) if self.ragged else None
        self.layer = LAYERS[problem.cell](problem.input, problem.hidden)
        with torch.no_grad():
            self.layer.weight_ih_l0.copy_(torch.from_numpy(problem.u()))
            self.layer.weight_hh_l0.copy_(torch.from_numpy(problem.w()))
            self.layer.bias_ih_l0.copy_(torch.from_numpy(problem.b()))
            self.layer.bias_hh_l0.copy_(torch.from_numpy(problem.recurrent_b()))
        self.x = torch.from_numpy(problem.x()).requires_grad_(self.training)
        self.dy = torch.from_numpy(problem.dy())
        self.wanted = {
            "du": self.layer.weight_ih_l0,
            "dw": self.layer.weight_hh_l0,
            "db": self.layer.bias_ih_l0,
            "dx": self.x,
        }
        if problem.cell == "gru":
            self.wanted["db_hn"] = self.layer.bias_hh_l0
        else:
            # The equations have one vector of biases.
            self.layer.bias_hh_l0.requires_grad_(False)

    def forward(self):
        """By name, what the pass returns to its caller."""
        y, _ = self.layer(self.x)
        return {"y": y}

    def run(self):
        if self.training:
            self.outputs = self.forward()
            wanted = list(self.wanted.values())
            self.gradients = torch.autograd.grad(self.outputs["y"], wanted, self.dy)
        else:
            with torch.inference_mode():
                self.outputs = self.forward()

    def results(self):
        results = dict(self.outputs)
        if self.training:
            results.update(zip(self.wanted, self.gradients, strict=True))
        if "db_hn" in results:
            results["db_hn"] = results["db_hn"][2 * self.hidden :]
        return {name: tensor.detach().numpy() for name, tensor in results.items()}


class Packed(PyTorch):
    """Sequences of different lengths in a `PackedSequence`, which is made in each pass."""

    ragged = True

    def forward(self):
        packed = pack_padded_sequence(self.x, self.lengths, enforce_sorted=False)
        y, last = self.layer(packed)
        h_n = last[0] if isinstance(last, tuple) else last
        return {"y": pad_packed_sequence(y)[0], "h_n": h_n}


class Padded(PyTorch):
    """Sequences of different lengths as if they had the same, with the outputs after the ends set
    to 0, and the last states taken from where the sequences end. A cell state cannot be had so."""

    ragged = True

    def __init__(self, problem):
        super().__init__(problem)
        steps = torch.arange(problem.steps)[:, None]
        self.mask = (steps < self.lengths)[:, :, None].float()
        self.last = self.lengths - 1, torch.arange(problem.batch)

    def forward(self):
        y, _ = self.layer(self.x)
        return {"y": y * self.mask, "h_n": y[self.last]}


torch.set_num_interop_threads(1)
serve({"packed": Packed, "padded": Padded}[sys.argv[1]] if sys.argv[1:] else PyTorch, Network)
