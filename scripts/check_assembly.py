#!/usr/bin/env python3
"""Reads the machine code of the kernels and refuses code that would be slow.

    scripts/check_assembly.py [--arch x86_64|aarch64] [--list] [--from DIRECTORY]

Builds `bptt-kernels` in the release profile with its assembly beside it and
finds the `#[target_feature]` entries, `simd::<isa>::enter::<Kernel>`, in it. A
kernel that is not inlined into its entry still computes the right thing, only
several times slower; no test of values sees that, so this one fails where

- a type that implements `Kernel` has no entry for an instruction set,
- an entry neither uses the vectors of its instruction set nor calls one that does,
- a loop of an entry calls a function other than another entry (for a call through a
  register: an entry whose address the function loads into it), memset, memcpy, and the
  functions that hand tasks to a thread, `team::Worker::next_of` and `finish_of`, which use no
  vectors (panics leave the loop and do not count),
- a product loop (an innermost loop whose only vector arithmetic is
  multiply-adds) calls any function, or reads or writes a vector on the stack, which
  means that an accumulator was spilled,
- a register tile has no product loop, or the tallest tile does not exist,
- a scanned cell has no entry, forward or backward, with a loop of vector arithmetic,
- a function outside the entries uses their vectors, so a part was not inlined.

Loops are found in the control-flow graph, not by the order of addresses. If it is not
clear which jump table a jump uses, the jump goes to every label of every table of the
function; then the graph has too many loops, never too few.

Needs Python and cargo; for aarch64 it needs a RUSTC that has that target
(scripts/neon.sh names one). --list prints every product loop; --from reads the *.s
files of a directory (Intel syntax) and builds nothing.
"""

import argparse
import math
import os
import pathlib
import re
import shutil
import string
import subprocess
import sys
from dataclasses import dataclass, field

ROOT = pathlib.Path(__file__).resolve().parent.parent

# The register tile: `Tile<Rows, R, V>` is R rows times V vectors.
TILE = "gemm::tile::Tile"


@dataclass
class Arch:
    target: str
    isas: dict  # entry's module: (vector operand, rows of the tallest tile)
    vector: str  # any vector operand
    foreign: str | None  # vector operands that only entries may use
    fma: str
    arithmetic: str  # vector arithmetic that a product loop must not contain
    call: str
    indirect: str
    jump: str
    branch: str
    end: str
    stack: str
    frame: str  # with it, `frame_stack` addresses the stack as well
    frame_stack: str
    comment: str
    flags: list = field(default_factory=list)


ARCHS = {
    "x86_64": Arch(
        target="x86_64-unknown-linux-gnu",
        isas={"avx512": (r"\bzmm\d", 12), "avx2": (r"\bymm\d", 6)},
        vector=r"\b[xyz]mm\d",
        foreign=r"\b[yz]mm\d",
        fma=r"vfn?m(add|sub)\d+ps",
        arithmetic=r"v(add|sub|mul|div|min|max|sqrt|rcp14|rsqrt14|scalef|cmp|blendv|round|and|andn|or|xor)ps",
        call=r"call",
        indirect=r"jmp\s+(?:qword ptr|r[a-z0-9]+$)",
        jump=r"jmp",
        branch=r"j(?!mp)[a-z]+",
        end=r"ret|ud2|hlt|int3",
        stack=r"\[rsp\b",
        frame=r"mov\s+rbp, rsp",
        frame_stack=r"\[rbp\b",
        comment="#",
        flags=["-Cllvm-args=-x86-asm-syntax=intel"],
    ),
    "aarch64": Arch(
        target="aarch64-unknown-linux-gnu",
        isas={"neon": (r"\bv\d+\.4s|\bq\d", 12)},
        vector=r"\b([qv])\d",
        foreign=None,
        fma=r"fml[as]",
        arithmetic=r"(fadd|fsub|fmul|fdiv|fmin\w*|fmax\w*|fsqrt|frecp\w|fcm\w+|bif|bit|bsl)",
        call=r"blr?",
        indirect=r"br\b",
        jump=r"b",
        branch=r"b\.[a-z]+|cbn?z|tbn?z",
        end=r"ret|brk|udf",
        stack=r"\[sp\b",
        frame=r"(add|mov)\s+x29, sp",
        frame_stack=r"\[x29\b",
        comment="//",
    ),
}

# They fill the description of a group of columns, and move the lanes at an edge
# where the instruction set has no masks.
MEMORY = re.compile(r"\bmem(set|cpy)\b")
# `team::Worker::next_of` and `finish_of`, mangled: once per task.
TASKS = re.compile(r"4team\w*6Worker\w*(7next_of|9finish_of)")

# The module of scans. Its entries hand tasks to threads, `Worker<scan::DIRECTION::Work<CELL>>`.
SCAN = "scan"

# Calls that do not return.
LEAVES = re.compile(
    r"9panicking|\d_?\w*fail|handle_alloc_error|12handle_error|_Unwind_Resume|process5abort"
)


DIGITS = string.digits + string.ascii_lowercase + string.ascii_uppercase


def parse(symbol, at):
    """The names and the constants of a v0-mangled path that starts at `at`."""
    names, constants = [], []
    while at < len(symbol):
        if match := re.compile(r"(\d+)_?").match(symbol, at):
            start = match.end()
            at = start + int(match[1])
            names.append(symbol[start:at])
        elif match := re.compile(r"K[jb]([0-9a-f]*)_").match(symbol, at):
            at = match.end()
            constants.append(int(match[1] or "0", 16))
        elif match := re.compile(r"KB([0-9a-zA-Z]*)_").match(symbol, at):
            at = match.end()
            # The place of the constant, in base 62, counted from after the "_R".
            place = 0
            for digit in match[1]:
                place = place * 62 + DIGITS.index(digit)
            before = re.compile(r"[jb]([0-9a-f]*)_").match(symbol, 2 + place + bool(match[1]))
            constants.append(int(before[1] or "0", 16))
        elif match := re.compile(r"[Bs][0-9a-zA-Z]*_").match(symbol, at):
            at = match.end()
        elif symbol[at] == "E":
            break
        else:
            at += 1
    return [name for name in names if name != "bptt_kernels"], constants


def describe(names, constants):
    path = [name for name in names if name[0].islower()]
    kernel, *arguments = [name for name in names if not name[0].islower()]
    arguments += map(str, constants)
    return "::".join([*path[: names.index(kernel)], kernel]), f"<{', '.join(arguments)}>" * bool(arguments)


@dataclass
class Function:
    name: str
    lines: list  # instructions, each "op operands"
    blocks: list  # (first line, past the last)
    next: list  # successors of each block

    def loops(self):
        """Every loop: its set of blocks, and whether it has none inside."""
        found = []

        def within(nodes):
            some = False
            for component in components(nodes, self.next):
                if len(component) == 1:
                    (only,) = component
                    if only not in self.next[only]:
                        continue
                some = True
                entered = {
                    to for b in range(len(self.next)) if b not in component for to in self.next[b]
                }
                heads = sorted(component & entered) or sorted(component)
                found.append((component, not within(component - {heads[0]})))
            return some

        within(set(range(len(self.blocks))))
        return found

    def body(self, blocks):
        return [line for b in sorted(blocks) for line in self.lines[slice(*self.blocks[b])]]


def components(nodes, successors):
    """Strongly connected components (Tarjan's, without recursion)."""
    order, low, on_stack, stack, out = {}, {}, set(), [], []
    for root in sorted(nodes):
        if root in order:
            continue
        work = [(root, iter([s for s in successors[root] if s in nodes]))]
        order[root] = low[root] = len(order)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, rest = work[-1]
            for to in rest:
                if to not in order:
                    order[to] = low[to] = len(order)
                    stack.append(to)
                    on_stack.add(to)
                    work.append((to, iter([s for s in successors[to] if s in nodes])))
                    break
                if to in on_stack:
                    low[node] = min(low[node], order[to])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == order[node]:
                    component = set()
                    while node not in component:
                        component.add(stack.pop())
                    on_stack -= component
                    out.append(component)
    return out


def read(path, arch):
    """The functions of an assembly file."""
    functions, name, lines, labels = [], None, [], {}
    tables, table = {}, None
    pending = []
    kinds = set()
    for raw in path.read_text().splitlines():
        line = raw.split(arch.comment)[0].strip()
        if not line:
            continue
        if match := re.match(r"\.type\s+([^,]+),\s*[@%]function", line):
            kinds.add(match[1])
        elif match := re.match(r"([^\s:]+):", line):
            label = match[1]
            if label in kinds:
                name, lines, labels, table = label, [], {}, None
            elif label.startswith(".Lfunc_end") and name:
                pending.append((name, lines, labels))
                name = None
            elif label.startswith(".LJTI"):
                table = tables.setdefault(label, [])
            elif name and label.startswith(".LBB"):
                labels.setdefault(len(lines), []).append(label)
            elif label.startswith(".L") is False:
                table = None
        elif table is not None and name is None and (match := re.search(r"(\.LBB\d+_\d+)", line)):
            table.append(match[1])
        elif name and not line.startswith("."):
            lines.append(re.sub(r"\s+", " ", line))
    for name, lines, labels in pending:
        functions.append(graph(name, lines, labels, tables, arch))
    return functions


def targets(function, call):
    """The lines that name a call's possible targets: the call's own line or, for a call
    through a register, the lines that load the register."""
    through = re.fullmatch(r"(?:call|blr) (r\w+|x\d+)", call)
    if not through:
        return [call]
    load = re.compile(rf"\w+ {through[1]}, .*(_R\w+|{MEMORY.pattern})")
    # The register may also have held tables; their names are in capitals.
    table = re.compile(r"\d[A-Z]+\b")
    lines = [line for line in function.lines if load.match(line) and not table.search(line)]
    return lines or [call]


def graph(name, lines, labels, tables, arch):
    op = lambda line: line.split(" ", 1)[0]
    ends = re.compile(rf"(?:{arch.jump}|{arch.branch}|{arch.end})$")
    leaves = lambda line: re.fullmatch(arch.call, op(line)) and LEAVES.search(line)
    indirect = re.compile(arch.indirect)
    starts = {0, *labels}
    for at, line in enumerate(lines):
        if ends.match(op(line)) or leaves(line) or indirect.match(line):
            starts.add(at + 1)
    starts = sorted(start for start in starts if start < len(lines))
    blocks = list(zip(starts, [*starts[1:], len(lines)]))
    where = {label: starts.index(at) for at, all in labels.items() if at in starts for label in all}
    used = [t for t in tables if any(re.search(rf"{re.escape(t)}\b", line) for line in lines)]
    following = []
    for number, (start, end) in enumerate(blocks):
        last = lines[end - 1]
        to = set()
        falls = True
        if leaves(last) or re.fullmatch(arch.end, op(last)):
            falls = False
        elif indirect.match(last):
            falls = False
            # The table's address is mostly loaded in the straight code before this jump.
            straight = start
            while straight and straight not in labels:
                straight -= 1
            taken = [t for line in lines[straight:end] for t in used if re.search(rf"{re.escape(t)}\b", line)]
            to |= {where[label] for t in taken[-1:] or used for label in tables[t]}
        elif re.fullmatch(f"{arch.jump}|{arch.branch}", op(last)):
            falls = not re.fullmatch(arch.jump, op(last))
            target = last.split()[-1]
            if target in where:
                to.add(where[target])
        if falls and number + 1 < len(blocks):
            to.add(number + 1)
        following.append(to)
    return Function(name, lines, blocks, following)


def kernels():
    """The types that implement `Kernel`, from the sources: module path and name."""
    source = ROOT / "kernels/src"
    found = set()
    for path in source.rglob("*.rs"):
        parts = [*path.relative_to(source).with_suffix("").parts]
        if parts[-1] in ("mod", "lib"):
            parts.pop()
        if "tests" in parts:  # not compiled into the library
            continue
        text = path.read_text().split("#[cfg(test)]\nmod ")[0]
        for match in re.finditer(r"^impl(?:<[^{]*?>)?\s+(?:[\w:]+::)?Kernel\s+for\s+(\w+)", text, re.M):
            found.add("::".join([*parts, match[1]]))
    return found


def scans():
    """The types that implement `ScanCell`, from the sources."""
    found = set()
    for path in (ROOT / "kernels/src/scan").glob("*.rs"):
        for match in re.finditer(r"^impl(?:<.*?>)? ScanCell for (\w+)", path.read_text(), re.M):
            found.add(match[1])
    return found


def build(arch):
    target = ROOT / "target/assembly" / arch.target
    shutil.rmtree(target, ignore_errors=True)  # another build's assembly would be read too
    # As many codegen units as cargo's release profile has, so that the code is split as in a
    # release.
    flags = ["-Csymbol-mangling-version=v0", "-Ccodegen-units=16", "--emit=asm", *arch.flags]
    where = ["--release", "--target", arch.target, "--target-dir", str(target)]
    # Without flags from the environment; -Ctarget-cpu=native would change the code.
    env = {name: value for name, value in os.environ.items() if not name.endswith("RUSTFLAGS")}
    command = ["cargo", "rustc", "-p", "bptt-kernels", "--lib", *where, "--", *flags]
    subprocess.run(command, cwd=ROOT, env=env, check=True)
    return target / arch.target / "release/deps"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--arch", choices=ARCHS, default="x86_64")
    parser.add_argument("--list", action="store_true", help="print every product loop")
    parser.add_argument("--from", dest="directory", type=pathlib.Path, metavar="DIRECTORY")
    options = parser.parse_args()
    arch = ARCHS[options.arch]
    directory = options.directory or build(arch)
    functions = [f for path in sorted(directory.glob("*.s")) for f in read(path, arch)]
    if not functions:
        sys.exit(f"no assembly in {directory}")

    wanted, cells = kernels(), scans()
    if not wanted:
        sys.exit("no `impl Kernel for` in kernels/src")
    faults, rows, seen, made, scanned = [], [], {}, set(), {}
    # A tile that is too large for an instruction set is compiled but never called.
    called = {name for f in functions for line in f.lines for name in re.findall(r"_R\w+", line)}
    modules = "|".join(f"{len(isa)}{isa}" for isa in arch.isas)
    entry = re.compile(rf"12bptt_kernels4simd({modules})5enter")
    for function in functions:
        match = entry.search(function.name)
        if not match:
            inside = arch.foreign and [l for l in function.lines if re.search(arch.foreign, l)]
            if inside:
                what = "::".join(parse(function.name, 2)[0]) or function.name
                faults.append(f"{what}: not inlined into an entry, but has {inside[0]!r}")
            continue
        isa = match[1].lstrip(string.digits)
        names, sizes = parse(function.name, match.end())
        kernel, arguments = describe(names, sizes)
        name = f"{isa} {kernel}{arguments}"
        made.add((isa, kernel))
        # Or it was inlined into its callers, which are read themselves.
        if function.name not in called:
            continue
        operand, _ = arch.isas[isa]
        seen.setdefault((isa, kernel), []).append(sizes)
        # A kernel that only hands its work to entries needs no entry of its own.
        hands_on = any(entry.search(line) for line in function.lines)
        if not hands_on and not any(re.search(operand, line) for line in function.lines):
            faults.append(f"{name}: no vector of {isa} in it")
        stack = arch.stack
        if any(re.match(arch.frame, line) for line in function.lines[:20]):
            stack = f"{stack}|{arch.frame_stack}"

        loops = function.loops()
        products, stacked, hot = [], 0, set()
        for blocks, innermost in loops:
            body = function.body(blocks)
            ops = [line.split(" ", 1)[0] for line in body]
            fmas = sum(bool(re.fullmatch(arch.fma, op)) for op in ops)
            if not innermost or not fmas or any(re.fullmatch(arch.arithmetic, op) for op in ops):
                continue
            spills = [l for l in body if re.search(stack, l) and re.search(arch.vector, l)]
            products.append(fmas)
            hot |= blocks
            stacked += len(spills)
            if options.list:
                print(f"  {name}: {fmas} multiply-adds of {len(body)} instructions, {len(spills)} on the stack")
            if spills:
                faults.append(f"{name}: {len(spills)} vectors on the stack in a loop of {fmas} multiply-adds, first {spills[0]!r}")
        if names[0] == "team" and SCAN in names:
            direction = {"forward", "backward"} & set(names)
            for blocks, innermost in loops:
                body = function.body(blocks)
                computed = [l for l in body if re.match(rf"(?:{arch.arithmetic}|{arch.fma})\b", l)]
                if not innermost or not any(re.search(operand, line) for line in computed):
                    continue
                for cell in set(names) & cells:
                    scanned.setdefault((isa, cell), set()).update(direction)
                if options.list:
                    print(f"  {name}: a scan of {len(body)} instructions")
        looped = set().union(*(blocks for blocks, _ in loops))
        for what, blocks in [("a product loop", hot), ("a loop", looped - hot)]:
            for line in function.body(blocks):
                if not re.fullmatch(arch.call, line.split(" ", 1)[0]) or LEAVES.search(line):
                    continue
                ours = [(other := entry.search(to)) and other[1] == match[1] or MEMORY.search(to) for to in targets(function, line)]
                allowed = TASKS.search(line) or all(ours)
                if blocks is hot or not allowed:
                    faults.append(f"{name}: call in {what}: {line}")
        best = max(products, default=0)
        if kernel == TILE and best < math.prod(sizes):
            faults.append(f"{name}: no product loop: {best} multiply-adds, expected {math.prod(sizes)} or more")
        calls = [l for l in function.lines if re.fullmatch(arch.call, l.split(" ", 1)[0])]
        outside = sum(not LEAVES.search(line) for line in calls)
        rows.append((name, len(function.lines), len(loops), len(products), best, stacked, outside, len(calls) - outside))

    for isa in arch.isas:
        for kernel in sorted(wanted):
            if (isa, kernel) not in made:
                faults.append(f"{isa} {kernel}: implements Kernel but has no entry")
        for cell in sorted(cells):
            for direction in {"forward", "backward"} - scanned.get((isa, cell), set()):
                faults.append(f"{isa} scan {cell}: no loop of vector arithmetic {direction}")
        tallest = max((rows for rows, _ in seen.get((isa, TILE), [])), default=0)
        if tallest != arch.isas[isa][1]:
            faults.append(f"{isa}: the tallest tile has {tallest} rows, expected {arch.isas[isa][1]}")

    heads = ("entry", "instructions", "loops", "product loops", "most FMA", "spills", "calls", "panics")
    widths = [max(len(str(row[i])) for row in [heads, *rows]) for i in range(len(heads))]
    for row in [heads, *sorted(rows)]:
        print("  ".join(str(x).ljust(w) if i == 0 else str(x).rjust(w) for i, (x, w) in enumerate(zip(row, widths))))
    if faults:
        print(f"\n{len(faults)} faults:", *faults, sep="\n  ")
        sys.exit(1)
    print(f"\n{len(rows)} entries: no calls in loops, no vectors spilled in product loops")


if __name__ == "__main__":
    main()
