"""PyTorch on the CPU: `torch.nn.LSTM`, `GRU` and `RNN`, and autograd in training."""

import torch
from protocol import serve

LAYERS = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "vanilla": torch.nn.RNN}


class PyTorch:
    def __init__(self, problem):
        torch.set_num_threads(problem.threads)
        self.training = problem.mode == "train"
        self.hidden = problem.hidden
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

    def run(self):
        if self.training:
            self.y, _ = self.layer(self.x)
            self.gradients = torch.autograd.grad(self.y, list(self.wanted.values()), self.dy)
        else:
            with torch.inference_mode():
                self.y, _ = self.layer(self.x)

    def results(self):
        results = {"y": self.y}
        if self.training:
            results.update(zip(self.wanted, self.gradients, strict=True))
        if "db_hn" in results:
            results["db_hn"] = results["db_hn"][2 * self.hidden :]
        return {name: tensor.detach().numpy() for name, tensor in results.items()}


torch.set_num_interop_threads(1)
serve(PyTorch)
