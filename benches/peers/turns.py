"""What is done with the contenders of a case, one after another: checks, and timed turns."""

import numpy as np

from contenders import Failed, TooSlow

# The largest error allowed, relative to the largest reference value: of outputs, and of gradients,
# whose names begin with d.
OUTPUTS, GRADIENTS = 1e-4, 1e-3


def check(worker, problem, folder, expected, patience):
    """`ok` where the contender computes what the reference does. `problem` is the request."""
    for name in expected:
        result_file(folder, name).unlink(missing_ok=True)
    try:
        answer = worker.ask(**problem)
        if "unsupported" in answer:
            return f"unsupported: {answer['unsupported']}"
        worker.ask("check", patience, dir=str(folder / "results"))
        for name, values in expected.items():
            error = relative_error(np.fromfile(result_file(folder, name), dtype="<f4"), values)
            # Not `>`, which is false for NaN.
            if not error <= (GRADIENTS if name.startswith("d") else OUTPUTS):
                return f"WRONG: {name} is off by {error:.1e} of its largest value"
    except TooSlow as error:
        return f"slow: {error}"
    except (Failed, OSError) as error:
        return f"FAILED: {error}"
    return "ok"


def result_file(folder, name):
    results = folder / "results"
    results.mkdir(exist_ok=True)
    return results / f"{name}.bin"


def relative_error(values, expected):
    if values.size != expected.size:
        return np.inf
    largest = max(np.abs(expected).max(), np.finfo(np.float32).tiny)
    return np.abs(values - expected.ravel()).max() / largest


def ready(contenders):
    """The names of those that can be timed."""
    return [name for name, contender in contenders.items() if contender["status"] == "ok"]


def take(workers, contenders, threads, seconds, turn):
    """A turn of each contender that is ready, another one first in each turn. Returns the FMA peak
    after each of them, GFLOP/s."""
    names, peaks = ready(contenders), []
    first = turn % max(1, len(names))
    for name in names[first:] + names[:first]:
        try:
            timing = workers.get(name, threads).ask("round", seconds=seconds)
            contenders[name]["rounds"].append(timing)
        except Failed as error:
            contenders[name] = {"status": f"FAILED: {error}", "rounds": []}
        rust = workers.get("bptt", threads)
        peaks.append(rust.ask("peak", seconds=0.005, threads=threads)["gflops"])
    return peaks
