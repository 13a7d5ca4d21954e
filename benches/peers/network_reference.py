"""Networks of layers in f64: the cells of reference.py one upon another, in one direction or both,
over sequences of one length or of several."""

import numpy as np

from cells import GATES
from reference import CELLS, gradients, logistic

# The parts of a layer that it has in each direction, by name.
PARTS = ("u", "w", "b", "b_hn", "p")


def suffixes(case):
    """Of the names of each layer's parts: a list for each layer, with an entry for each direction."""
    ends = ["", "_reverse"][: case["directions"]]
    return [[f"_l{layer}{end}" for end in ends] for layer in range(case["layers"])]


def draw(case):
    """The same data for the same network: the parts of each layer with its suffix, x and dy."""
    sizes = [case[name] for name in ("layers", "directions", "hidden", "batch", "steps")]
    rng = np.random.default_rng(sizes)

    def uniform(limit, *shape):
        values = rng.random(shape, np.float32)
        values *= 2 * limit
        values -= limit
        return values

    hidden, output = case["hidden"], case.get("output", case["hidden"])
    scale, rows = hidden**-0.5, GATES[case["cell"]] * hidden
    data, width = {}, case["input"]
    for layer in suffixes(case):
        for suffix in layer:
            data["u" + suffix] = uniform(scale, rows, width)
            data["w" + suffix] = uniform(scale, rows, output)
            data["b" + suffix] = uniform(scale, rows)
            if case["cell"] == "gru":
                data["b_hn" + suffix] = uniform(scale, hidden)
            if "output" in case:
                data["p" + suffix] = uniform(scale, output, hidden)
        width = output * case["directions"]
    data["x"] = uniform(1, case["steps"], case["batch"], case["input"])
    data["dy"] = uniform(1, case["steps"], case["batch"], width)
    return data


def lengths(batch, shortest, longest):
    """One for each sequence, drawn from a seed between the two, which it may be, too."""
    drawn = np.random.default_rng([batch, longest]).integers(shortest, longest + 1, batch)
    return drawn.tolist()


def results(case, data, train):
    """y, and in training the gradients of all parameters, named as they are with a d before."""
    ends = np.array(case.get("lengths") or [case["steps"]] * case["batch"])
    # Nothing is read of what stands after the end of a sequence, and outputs there are 0.
    valid = (np.arange(case["steps"])[:, np.newaxis] < ends)[..., np.newaxis]
    y, passes = data["x"].astype(np.float64) * valid, []
    for layer in suffixes(case):
        passes.append([Pass(case, data, suffix, y, ends, valid) for suffix in layer])
        y = np.concatenate([each.y for each in passes[-1]], axis=-1)
    found = {"y": y}
    if train:
        dy = data["dy"].astype(np.float64) * valid
        for layer in reversed(passes):
            parts = np.split(dy, len(layer), axis=-1)
            dy = sum(each.backward(part, found) for each, part in zip(layer, parts, strict=True))
    return found


class Pass:
    """A forward pass of a layer in one direction, with its outputs y."""

    def __init__(self, case, data, suffix, x, ends, valid):
        self.cell, self.suffix, self.ends = case["cell"], suffix, ends
        named = {name: data.get(name + suffix) for name in PARTS}
        self.parts = {
            name: values.astype(np.float64) for name, values in named.items() if values is not None
        }
        self.x = self.turned(x)
        width = case.get("output", case["hidden"])
        self.h = np.zeros((len(x) + 1, x.shape[1], width))
        forward = projected_forward if "p" in self.parts else CELLS[self.cell][0]
        u, w, b = (self.parts[name] for name in ("u", "w", "b"))
        self.memory = forward(self.x @ u.T + b, w, self.h, self.parts)
        self.y = self.turned(self.h[1:] * valid)

    def turned(self, values):
        """Each sequence from its end to its beginning, if that is the direction."""
        if not self.suffix.endswith("_reverse"):
            return values
        turned = values.copy()
        for n, end in enumerate(self.ends):
            turned[:end, n] = values[:end, n][::-1]
        return turned

    def backward(self, dy, found):
        """Adds the gradients of the parameters to those found, and returns that of x."""
        u, w = self.parts["u"], self.parts["w"]
        back = CELLS[self.cell][1](self.memory, w, self.h, self.turned(dy))
        own = gradients(self.cell, u, self.x, self.h, *back)
        dx = self.turned(own.pop("dx"))
        found.update((name + self.suffix, values) for name, values in own.items())
        return dx


def projected_forward(gates, w, h, parts):
    """An LSTM's, whose outputs are the products of P and what it would output else."""
    s = np.zeros(gates[0, :, : gates.shape[-1] // 4].shape)
    for t, z in enumerate(gates):
        i, f, g, o = np.split(z + h[t] @ w.T, 4, axis=1)
        s = logistic(f) * s + logistic(i) * np.tanh(g)
        h[t + 1] = logistic(o) * np.tanh(s) @ parts["p"].T
