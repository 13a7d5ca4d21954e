"""PyTorch on the CPU: `torch.nn.LSTM`, and autograd in training."""

import torch
from protocol import serve


class PyTorch:
    def __init__(self, problem):
        torch.set_num_threads(problem.threads)
        self.training = problem.mode == "train"
        self.lstm = torch.nn.LSTM(problem.input, problem.hidden)
        with torch.no_grad():
            self.lstm.weight_ih_l0.copy_(torch.from_numpy(problem.u()))
            self.lstm.weight_hh_l0.copy_(torch.from_numpy(problem.w()))
            self.lstm.bias_ih_l0.copy_(torch.from_numpy(problem.b()))
            # The equations have one vector of biases.
            self.lstm.bias_hh_l0.zero_()
        self.lstm.bias_hh_l0.requires_grad_(False)
        self.x = torch.from_numpy(problem.x()).requires_grad_(self.training)
        self.dy = torch.from_numpy(problem.dy())
        self.wanted = {
            "du": self.lstm.weight_ih_l0,
            "dw": self.lstm.weight_hh_l0,
            "db": self.lstm.bias_ih_l0,
            "dx": self.x,
        }

    def run(self):
        if self.training:
            self.y, _ = self.lstm(self.x)
            self.gradients = torch.autograd.grad(self.y, list(self.wanted.values()), self.dy)
        else:
            with torch.inference_mode():
                self.y, _ = self.lstm(self.x)

    def results(self):
        results = {"y": self.y}
        if self.training:
            results.update(zip(self.wanted, self.gradients, strict=True))
        return {name: tensor.detach().numpy() for name, tensor in results.items()}


torch.set_num_interop_threads(1)
serve(PyTorch)
