"""The machine that measurements are from."""

import os
import platform
import re
from pathlib import Path


def cpu():
    """The processor, as people name it."""
    try:
        info = Path("/proc/cpuinfo").read_text()
        field = lambda name: re.search(rf"^{name}\s*: (.*)$", info, re.MULTILINE)[1]
        name, vendor, family = map(field, ("model name", "vendor_id", "cpu family"))
    except (OSError, TypeError):
        return platform.machine()
    # A virtual machine may hide the model; the family tells the microarchitecture.
    zen = {"25": "Zen 4" if "avx512f" in info else "Zen 3", "26": "Zen 5"}
    return f"{name} ({zen.get(family, 'family ' + family)})" if vendor == "AuthenticAMD" else name


def cores():
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))
