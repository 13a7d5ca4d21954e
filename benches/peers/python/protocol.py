"""The worker's side of the protocol of README.md, for contenders in Python."""

import json
import math
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np


# How many gates each cell has.
GATES = {"lstm": 4, "gru": 3, "vanilla": 1}


class Unsupported(Exception):
    """A contender cannot do what is asked; the message says why."""


def array(folder, name, *shape):
    return np.fromfile(Path(folder, f"{name}.bin"), dtype="<f4").reshape(shape)


class Parameters:
    """Of a layer in one direction, read from the folder `dir`."""

    # After the names of the parameters, in networks of layers.
    suffix = ""
    # What the outputs are projected to, if they are.
    output = None

    def part(self, name, *shape):
        return array(self.dir, name + self.suffix, *shape)

    @property
    def rows(self):
        """Of the weights of all gates."""
        return GATES[self.cell] * self.hidden

    def u(self):
        return self.part("u", self.rows, self.input)

    def w(self):
        return self.part("w", self.rows, self.output or self.hidden)

    def b(self):
        return self.part("b", self.rows)

    def recurrent_b(self):
        """The second vector of biases that many libraries have: the equations need it for
        the GRU's b_hn alone, the rest is zero."""
        biases = np.zeros(self.rows, np.float32)
        if self.cell == "gru":
            biases[2 * self.hidden :] = self.part("b_hn", self.hidden)
        return biases

    def p(self):
        """The projection."""
        return self.part("p", self.output, self.hidden)


@dataclass
class Problem(Parameters):
    """A problem and its data, as the request `setup` names them."""

    cell: str
    dir: str
    input: int
    hidden: int
    batch: int
    steps: int
    mode: str
    threads: int
    # Of each sequence, where they differ; the others have all steps.
    lengths: list[int] | None = None

    def x(self):
        return array(self.dir, "x", self.steps, self.batch, self.input)

    def dy(self):
        return array(self.dir, "dy", self.steps, self.batch, self.hidden)


@dataclass
class Layer(Parameters):
    """A layer of a network in one direction."""

    cell: str
    dir: str
    input: int
    hidden: int
    output: int | None
    suffix: str


@dataclass
class NetworkProblem:
    """A network of layers and its data, as the request `network` names them."""

    cell: str
    dir: str
    layers: int
    directions: int
    input: int
    hidden: int
    batch: int
    steps: int
    mode: str
    threads: int
    # What a layer's outputs are projected to in each direction, if they are.
    output: int | None = None
    # Of each sequence, where they differ; the others have all steps.
    lengths: list[int] | None = None

    @property
    def width(self):
        """Of the outputs of a layer in all of its directions."""
        return self.directions * (self.output or self.hidden)

    def parameters(self):
        """A list for each layer, with an entry for each direction."""
        sizes = [self.input] + [self.width] * (self.layers - 1)
        ends = ["", "_reverse"][: self.directions]
        return [
            [
                Layer(self.cell, self.dir, size, self.hidden, self.output, f"_l{layer}{end}")
                for end in ends
            ]
            for layer, size in enumerate(sizes)
        ]

    def x(self):
        return array(self.dir, "x", self.steps, self.batch, self.input)

    def dy(self):
        return array(self.dir, "dy", self.steps, self.batch, self.width)


def timed_round(run, seconds):
    """Passes for at least `seconds`. The first warms the caches up and is not
    counted, unless it takes so long that it has to do."""
    start = time.perf_counter()
    run()
    first = time.perf_counter() - start
    # So many passes between two looks at the clock that looking takes no time.
    calls = max(1, math.ceil(0.002 / first))
    samples = [first] if first >= 2 else []
    while not samples or time.perf_counter() - start < first + seconds:
        sample = time.perf_counter()
        for _ in range(calls):
            run()
        samples.append((time.perf_counter() - sample) / calls)
    return {
        "best": min(samples),
        "median": statistics.median(samples),
        "passes": len(samples) * calls,
    }


def answer(request, contender, network, current):
    """The answer to a request, and the contender that is set up after it."""
    what = request.pop("do")
    if what in ("setup", "network"):
        # The last problem's memory first.
        current = None
        try:
            if what == "setup":
                return {"ok": True}, contender(Problem(**request))
            return {"ok": True}, network(NetworkProblem(**request))
        except Unsupported as why:
            return {"unsupported": str(why)}, None
    if what == "free":
        return {"ok": True}, None
    if current is None:
        raise RuntimeError("no setup yet")
    if what == "check":
        current.run()
        for name, values in current.results().items():
            np.ascontiguousarray(values, dtype="<f4").tofile(Path(request["dir"], f"{name}.bin"))
        return {"ok": True}, current
    if what == "round":
        return timed_round(current.run, request["seconds"]), current
    raise RuntimeError(f"unknown request {what}")


def serve(contender, network=None):
    """Answers requests. `contender` is made of a `Problem` and has `run()`, what is
    timed, and `results()`, by name what it computed. `network` is the same of a
    `NetworkProblem`."""
    current = None
    for line in sys.stdin:
        try:
            reply, current = answer(json.loads(line), contender, network, current)
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)
