"""The contenders: what they are called, how they are started, and their processes."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILT = ROOT / "target" / "peers"

RUST = BUILT / "rust" / "release" / "bptt-peers"
COMMANDS = {
    "bptt": [RUST, "bptt"],
    "unfused": [RUST, "unfused"],
    "torch": [sys.executable, HERE / "python" / "pytorch.py"],
    "torch-packed": [sys.executable, HERE / "python" / "pytorch.py", "packed"],
    "torch-padded": [sys.executable, HERE / "python" / "pytorch.py", "padded"],
    "onnxruntime": [sys.executable, HERE / "python" / "ort.py"],
    "onednn": [BUILT / "onednn"],
    "candle": [RUST, "candle"],
    "burn": [RUST, "burn"],
}
TITLES = {
    "bptt": "bptt",
    "unfused": "unfused",
    "torch": "PyTorch",
    "torch-packed": "PyTorch packed",
    "torch-padded": "PyTorch padded",
    "onnxruntime": "ONNX Runtime",
    "onednn": "oneDNN",
    "candle": "candle",
    "burn": "burn",
}
# bptt is compared with the best of these; unfused is this project's own.
PEERS = ["torch", "torch-packed", "torch-padded", "onnxruntime", "onednn", "candle", "burn"]


def taking_part(names, ragged):
    """Those of the contenders that are for sequences of one length, or of different lengths."""
    others = {"torch"} if ragged else {"torch-packed", "torch-padded"}
    return [name for name in names if name not in others]


def versions():
    """By title, what was built and installed."""
    lock = tomllib.loads((HERE / "rust" / "Cargo.lock").read_text())
    crates = {package["name"]: package["version"] for package in lock["package"]}
    header = Path(sys.prefix, "include", "oneapi", "dnnl", "dnnl_version.h").read_text()
    onednn = re.findall(r"DNNL_VERSION_(?:MAJOR|MINOR|PATCH)\s+(\d+)", header)
    return {
        "bptt": crates["bptt"],
        "matrixmultiply": crates["matrixmultiply"],
        "PyTorch": version("torch"),
        "ONNX Runtime": version("onnxruntime"),
        "oneDNN": ".".join(onednn),
        "candle": crates["candle-nn"],
        "burn": crates["burn"],
    }


class Failed(Exception):
    """A worker answered with an error, or died."""


class TooSlow(Exception):
    """A worker took longer than there is patience for."""


class Worker:
    """The process of a contender for one number of threads. It is stopped except
    while it answers, so that no idle pool of threads spins beside the others."""

    def __init__(self, name, threads):
        env = {**os.environ, "OMP_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads)}
        logs = BUILT / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self.log = logs / f"{name}-{threads}.txt"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                COMMANDS[name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=env,
                text=True,
            )
        self.process.send_signal(signal.SIGSTOP)

    def ask(self, do, patience=None, **request):
        """Sends a request, returns the answer; one that takes more than `patience` seconds
        ends the process."""
        self.process.send_signal(signal.SIGCONT)
        try:
            self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self.process.stdin.flush()
            # An answer is a line, so that none is left in the buffer.
            if not select.select([self.process.stdout], [], [], patience)[0]:
                self.kill()
                raise TooSlow(f"more than {patience:g} s for a pass")
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise Failed(f"the worker ended, see {self.log.relative_to(ROOT)}")
        self.process.send_signal(signal.SIGSTOP)
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def kill(self):
        self.process.kill()
        self.process.wait()


class Workers:
    """All workers, started when they are first asked for."""

    def __init__(self):
        self.workers = {}

    def get(self, name, threads):
        worker = self.workers.get((name, threads))
        if worker is None or worker.process.poll() is not None:
            worker = self.workers[name, threads] = Worker(name, threads)
        return worker

    def kill(self):
        for worker in self.workers.values():
            worker.kill()
