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


@dataclass
class Problem:
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

    def array(self, name, *shape):
        values = np.fromfile(Path(self.dir, f"{name}.bin"), dtype="<f4")
        return values.reshape(shape)

    @property
    def rows(self):
        """Of the weights of all gates."""
        return GATES[self.cell] * self.hidden

    def u(self):
        return self.array("u", self.rows, self.input)

    def w(self):
        return self.array("w", self.rows, self.hidden)

    def b(self):
        return self.array("b", self.rows)

    def recurrent_b(self):
        """The second vector of biases that many libraries have: the equations need it for
        the GRU's b_hn alone, the rest is zero."""
        biases = np.zeros(self.rows, np.float32)
        if self.cell == "gru":
            biases[2 * self.hidden :] = self.array("b_hn", self.hidden)
        return biases

    def x(self):
        return self.array("x", self.steps, self.batch, self.input)

    def dy(self):
        return self.array("dy", self.steps, self.batch, self.hidden)


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


def answer(request, contender, current):
    """The answer to a request, and the contender that is set up after it."""
    what = request.pop("do")
    if what == "setup":
        # The last problem's memory first.
        current = None
        try:
            return {"ok": True}, contender(Problem(**request))
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


def serve(contender):
    """Answers requests. `contender` is made of a `Problem` and has `run()`, what is
    timed, and `results()`, by name what it computed."""
    current = None
    for line in sys.stdin:
        try:
            reply, current = answer(json.loads(line), contender, current)
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)
