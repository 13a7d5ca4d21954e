#!/usr/bin/env python3
"""Refuses imports from higher modules, and circles of files, in src/ and kernels/src/.

LAYERS lists each crate's modules from the lowest to the highest. A file may use its own
module and lower ones. Within a module the files have no such order; there, as everywhere,
they must not form a circle: of two files at most one uses the other, directly or by way of
other files.

The script reads the `use` lines and the paths in the code, `crate::…`, `super::…` and
those that begin with an imported module. It ignores comments, and code that is compiled
only for tests. The rules are the same for a parent and its child as for any two files:

- A file uses the file in which a name is defined. A name that is re-exported by `pub use`
  is followed to its definition, so the front page of a folder (a mod.rs that only
  re-exports) is never part of a circle, and a name that a child finds through `super::`
  counts as a use of the file that defines the name.
- `mod child;` and `pub use child::Name;` alone do not count as a use of the child, but they
  do if the file names `Name` elsewhere too. So a parent that works with its children's
  items cannot define items that they need; these belong in a file of their own, below both.
- Methods are ignored: an `impl` may be spread over files that name the type.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# From the lowest to the highest.
LAYERS = {
    "kernels/src": """
        error tuning cache simd isa denormals aligned each vmath threefry peak baseline
        team
        rows format gemm diagonal normalise softmax logistic optim
        cells recurrence rowwise attention scan slstm
    """.split(),
    "src": """
        error runtime gradients memory params sequence regularisation
        loss blocks
        containers
        train network io
    """.split(),
}


def code_of(text):
    """The text without comments, strings and code that is compiled only for tests."""
    token = re.compile(
        r"//[^\n]*|/\*.*?\*/|r(#*)\".*?\"\1|b?\"(?:\\.|[^\"\\])*\"|b?'(?:\\.[^']*|[^'\\])'",
        re.DOTALL,
    )
    text = token.sub(lambda m: " " if m[0].startswith("/") else '""', text)
    while test := re.search(r"#\[cfg\((?:test|all\(test,[^\]]*)\)\]\s*(?:pub\S*\s+)?(?:mod|use|fn|impl)\b[^;{]*", text):
        end = test.end()
        if text[end] == "{":
            depth = 0
            while True:
                depth += {"{": 1, "}": -1}.get(text[end], 0)
                end += 1
                if depth == 0:
                    break
        else:
            end += 1
        text = text[: test.start()] + text[end:]
    return text


def leaves(tree, before=()):
    """The (path, name) of each leaf of a `use` tree."""
    tree = tree.strip()
    if brace := re.fullmatch(r"(?:(.*?)\s*::\s*)?\{(.*)\}", tree, re.DOTALL):
        before = before + tuple(part.strip() for part in (brace[1] or "").split("::") if part)
        depth, part = 0, ""
        for char in brace[2] + ",":
            depth += {"{": 1, "}": -1}.get(char, 0)
            if char == "," and depth == 0:
                if part.strip():
                    yield from leaves(part, before)
                part = ""
            else:
                part += char
        return
    path, _, name = (part.strip() for part in tree.partition(" as "))
    path = before + tuple(part.strip() for part in path.split("::"))
    if path[-1] == "self":
        path = path[:-1]
    yield path, name or path[-1]


class Module:
    def __init__(self, crate, file, path):
        self.crate, self.file, self.path = crate, file, path
        code = code_of(file.read_text())
        self.children = {}
        home = file.parent if file.name in ("mod.rs", "lib.rs") else file.with_suffix("")
        for name in re.findall(r"\bmod\s+(\w+)\s*;", code):
            child = next(f for f in (home / f"{name}.rs", home / name / "mod.rs") if f.exists())
            self.children[name] = Module(crate, child, path + (name,))
        self.imports, self.passed_on = {}, set()
        use = re.compile(r"(\bpub(?:\([^)]*\))?\s+)?\buse\s+([^;]+);")
        for line in use.finditer(code):
            for target, name in leaves(line[2]):
                if name == "*" and target[0] in ("crate", "super", "self"):
                    sys.exit(f"{file}: a glob of this crate's, which hides what is used")
                self.imports[name] = target
                if line[1]:
                    self.passed_on.add(name)
        self.code = use.sub("", code).replace("$crate", "crate")

    def all(self):
        yield self
        for child in self.children.values():
            yield from child.all()

    def find(self, path, seen=()):
        """For a path within this module: the module that it names, and True; or the module that
        defines the name, and False; or None if the path leaves the crate."""
        module, rest = self, list(path)
        if rest[0] == "crate":
            module, rest = self.crate.root, rest[1:]
        elif rest[0] in ("super", "self"):
            while rest and rest[0] in ("super", "self"):
                if rest.pop(0) == "super":
                    module = self.crate.modules[module.path[:-1]]
        elif rest[0] not in self.children and rest[0] not in self.imports:
            return None, False
        while rest:
            name = rest.pop(0)
            if name in module.children:
                module = module.children[name]
            elif name in module.imports and (module, name) not in seen:
                seen = (*seen, (module, name))
                module, whole = module.find(module.imports[name], seen)
                if module is None or not whole:
                    return module, whole
            else:
                return module, False
        return module, True

    def uses(self):
        """Each (module, name) that this module uses."""
        for name, path in self.imports.items():
            if name in self.passed_on and not re.search(rf"\b{name}\b", self.code):
                continue
            # A module alone is no use yet: what is named of it is, below.
            target, is_module = self.find(path)
            if target and not is_module:
                yield target, name
        for path in re.findall(r"(?<![\w:])(\w+(?:\s*::\s*\w+)+)", self.code):
            path = [part.strip() for part in path.split("::")]
            target, _ = self.find(path)
            if target:
                yield target, "::".join(path)


class Crate:
    def __init__(self, folder):
        self.folder, self.modules = folder, {}
        self.root = Module(self, ROOT / folder / "lib.rs", ())
        self.modules = {module.path: module for module in self.root.all()}

    def edges(self):
        """For each module the modules that it uses, with one used name of each."""
        found = {module: {} for module in self.modules.values()}
        for module in found:
            for target, name in module.uses():
                if target is not module:
                    found[module].setdefault(target, name)
        return found


def circles(edges):
    """The strongly connected components of more than one (Tarjan 1972)."""
    number, low, stack, found = {}, {}, [], []

    def visit(node):
        number[node] = low[node] = len(number)
        stack.append(node)
        for target in edges[node]:
            if target not in number:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], number[target])
        if low[node] == number[node]:
            at = stack.index(node)
            if len(stack) - at > 1:
                found.append(stack[at:])
            del stack[at:]

    for node in edges:
        if node not in number:
            visit(node)
    return found


def check(folder):
    """The faults in a crate, one line each, and the number of imports."""
    crate, order = Crate(folder), LAYERS[folder]
    edges, wrong = crate.edges(), []
    shown = lambda module: module.file.relative_to(ROOT)
    for name in crate.root.children:
        if name not in order:
            wrong.append(f"{folder}: {name} has no place in LAYERS of {sys.argv[0]}")
    for name in order:
        if name not in crate.root.children:
            wrong.append(f"{folder}: LAYERS has {name}, which is no module")
    place = {name: at for at, name in enumerate(order)}
    for module, targets in edges.items():
        if module is crate.root:
            continue
        for target, name in targets.items():
            of, to = module.path[0], (target.path or ("lib",))[0]
            if of != to and place.get(to, len(order)) > place.get(of, len(order)):
                wrong.append(f"{shown(module)} uses {name} of {shown(target)}, which is above it")
    for circle in circles(edges):
        wrong.append(f"{folder}: a circle of {len(circle)} files:")
        for module in sorted(circle, key=lambda module: module.path):
            for target, name in edges[module].items():
                if target in circle:
                    wrong.append(f"    {shown(module)} uses {name} of {shown(target)}")
    return wrong, sum(map(len, edges.values()))


def main():
    failed = False
    for folder in LAYERS:
        wrong, count = check(folder)
        print(f"{folder}: {count} imports between files")
        for line in wrong:
            print(line)
        failed = failed or bool(wrong)
    sys.exit(failed)


main()
