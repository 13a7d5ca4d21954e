"""Networks of PyTorch's layers: `num_layers`, `bidirectional` and `proj_size` of `torch.nn.LSTM` and the
like. Sequences of different lengths go as a `PackedSequence`, which is made in each pass."""

import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

LAYERS = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "vanilla": torch.nn.RNN}


class Network:
    def __init__(self, problem):
        torch.set_num_threads(problem.threads)
        self.training = problem.mode == "train"
        options = {"proj_size": problem.output} if problem.output else {}
        self.network = LAYERS[problem.cell](
            problem.input,
            problem.hidden,
            num_layers=problem.layers,
            bidirectional=problem.directions == 2,
            **options,
        )
        # By name, the parameters whose gradients are wanted, and how many of their last values.
        self.wanted = {}
        for layer in problem.parameters():
            for part in layer:
                self.fill(part)
        self.x = torch.from_numpy(problem.x())
        self.dy = torch.from_numpy(problem.dy())
        self.lengths = torch.tensor(problem.lengths) if problem.lengths else None

    def fill(self, part):
        """Takes over the parameters of a layer in one direction."""
        of = lambda name: getattr(self.network, name + part.suffix)
        with torch.no_grad():
            of("weight_ih").copy_(torch.from_numpy(part.u()))
            of("weight_hh").copy_(torch.from_numpy(part.w()))
            of("bias_ih").copy_(torch.from_numpy(part.b()))
            of("bias_hh").copy_(torch.from_numpy(part.recurrent_b()))
            if part.output:
                of("weight_hr").copy_(torch.from_numpy(part.p()))
        named = {"du": "weight_ih", "dw": "weight_hh", "db": "bias_ih"}
        if part.output:
            named["dp"] = "weight_hr"
        if part.cell == "gru":
            named["db_hn"] = "bias_hh"
        else:
            # The equations have one vector of biases.
            of("bias_hh").requires_grad_(False)
        self.wanted |= {name + part.suffix: of(parameter) for name, parameter in named.items()}

    def forward(self):
        if self.lengths is None:
            return self.network(self.x)[0]
        packed = pack_padded_sequence(self.x, self.lengths, enforce_sorted=False)
        return pad_packed_sequence(self.network(packed)[0])[0]

    def run(self):
        if self.training:
            self.y = self.forward()
            self.gradients = torch.autograd.grad(self.y, list(self.wanted.values()), self.dy)
        else:
            with torch.inference_mode():
                self.y = self.forward()

    def results(self):
        results = {"y": self.y}
        if self.training:
            results.update(zip(self.wanted, self.gradients, strict=True))
        for name in results:
            if name.startswith("db_hn"):
                # The last of three gates'.
                results[name] = results[name][-self.network.hidden_size :]
        return {name: tensor.detach().numpy() for name, tensor in results.items()}
