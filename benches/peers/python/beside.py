"""Times a layer in PyTorch beside bptt's example rnnbench, in turns, on one thread."""

import json
import statistics
import subprocess
import time

import torch


def one_thread():
    """Everything is on one thread from then on, and drawn from one seed."""
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    torch.manual_seed(1)


def same(run, stepwise, layer, x):
    """Demands that two ways to compute a layer agree, in outputs and gradients."""
    results = []
    for way in [run, stepwise]:
        y = way(x)
        gradients = torch.autograd.grad(y.square().sum(), list(layer.parameters()))
        results.append([y, *gradients])
    for own, other in zip(*results):
        assert torch.allclose(own, other, rtol=1e-9), "the layer is not what its equations say"


def compare(layer, run, x, cell, rounds, rnnbench):
    """What the turns took, by mode. `run` computes the layer's outputs from x, `[T, B, I]`, and has as
    many units as inputs; `cell` is what rnnbench calls it."""
    steps, batch, inputs = x.shape
    dy, leaf = torch.rand(steps, batch, inputs) * 2 - 1, x.clone().requires_grad_()

    def infer():
        with torch.inference_mode():
            run(x)

    def train():
        torch.autograd.grad(run(leaf), [leaf, *layer.parameters()], dy)

    sizes = {"input": inputs, "hidden": inputs, "batch": batch, "steps": steps}
    results = dict(sizes)
    for mode, turn in [("infer", infer), ("train", train)]:
        turn()
        options = {"cell": cell, "mode": mode, "seconds": 1, **sizes}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        theirs, own = [], []
        for _ in range(rounds):
            began = time.perf_counter()
            turn()
            theirs.append((time.perf_counter() - began) * 1e3)
            command = [rnnbench, "--json", *words]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            own.append(json.loads(said)["ms_median"])
        results[mode] = {
            "torch_ms": statistics.median(theirs),
            "bptt_ms": statistics.median(own),
            "ratio": statistics.median(a / b for a, b in zip(theirs, own)),
        }
    return results
