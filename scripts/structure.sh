#!/usr/bin/env bash
# How the code leans on itself, read from the `use` lines and paths of the sources (tests at a file's end left out):
#
# * a module of the engine uses only those before it: sync, wait, affinity, clock, ring, topic, observe, routing, message, broker;
#   one of the bench likewise, in the order below;
# * no file of a room (engine/src/{ring,topic,routing,broker}, bench-harness/src) leans on itself by way of others of that room.
#   What a file re-exports for others (`pub use` of a child) is no arrow: whoever uses it leans on the file it comes from;
# * no line of Rust is longer than 120 columns, but for rows of tables in comments, which cannot be broken.
#
# Needs python3, of which it uses the standard library alone. What is known and not yet mended stands in
# scripts/structure.known, which may only shrink: rooms that still have circles, and how many wide lines a folder still has.
source "$(dirname "$0")/common.sh"
exec python3 - <<'PYTHON'
import os
import re
import subprocess
import sys
from collections import defaultdict

ORDERS = {
    "engine/src": "sync wait affinity clock ring topic observe routing message broker".split(),
    "bench-harness/src": "exit error interrupt stats units json progress machine report input load compare routing scenario simulate cli".split(),
}
ROOMS = ["engine/src/ring", "engine/src/topic", "engine/src/routing", "engine/src/broker", "bench-harness/src"]
WIDTH = 120

files = subprocess.check_output(
    ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.rs"], text=True).split("\0")
files = sorted(file for file in set(files) if file and os.path.exists(file))
known = [line.split() for line in open("scripts/structure.known") if line.strip() and not line.startswith("#")]
allowed_circles = {words[1] for words in known if words[0] == "circles"}
allowed_wide = {words[1]: int(words[2]) for words in known if words[0] == "wide"}
faults = []


def code(text):
    """The text without comments, strings and the tests at its end, line for line."""
    tests = re.search(r"^#\[cfg\((all\()?test\b", text, re.M)
    text = text[:tests.start()] if tests else text
    inert = re.compile(r'//[^\n]*|/\*.*?\*/|r(#*)".*?"\1|"(?:\\.|[^"\\])*"|\'(?:\\.|[^\\\'\n])\'', re.S)
    return inert.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def leaves(tree, prefix=()):
    """The paths of a `use`, with the names they get: `a::{b, c as d}` is (a::b, b) and (a::c, d)."""
    tree = tree.strip()
    head, brace, rest = tree.partition("{")
    prefix += tuple(word for word in re.sub(r"\s+as\s+.*", "", head).replace(" ", "").split("::") if word)
    if not brace:
        alias = re.search(r"\sas\s+(\w+)", head)
        if prefix and prefix[-1] == "self":
            prefix = prefix[:-1]
        if prefix:
            yield prefix, alias.group(1) if alias else prefix[-1]
        return
    depth, start, inner = 0, 0, rest[:rest.rindex("}")]
    for at, char in enumerate(inner + ","):
        depth += (char == "{") - (char == "}")
        if char == "," and depth == 0:
            if inner[start:at].strip():
                yield from leaves(inner[start:at], prefix)
            start = at + 1


class Tree:
    """The modules of one crate: path -> file, and what each re-exports."""

    def __init__(self, root):
        self.modules = {}
        for file in files:
            if file.startswith(root + "/"):
                path = file[len(root) + 1:-3].split("/")
                if path[-1] in ("mod", "lib", "main"):
                    path.pop()
                self.modules[tuple(path)] = file
        self.exports, self.arrows = defaultdict(dict), []
        sources = {path: code(open(file).read()) for path, file in self.modules.items()}
        for path, text in sources.items():
            for _, is_public, tree in self.uses(text):
                for target, name in leaves(tree):
                    target = self.absolute(path, target)
                    if is_public and target and target[:len(path)] == path:
                        self.exports[path][name] = target
        for path, text in sources.items():
            for at, is_public, tree in self.uses(text):
                for target, _ in leaves(tree):
                    target = self.absolute(path, target)
                    if not (is_public and target and target[:len(path)] == path):
                        self.arrow(path, target, text, at)
            paths = re.sub(r"\buse\b[^;]*;|pub\s*\(in [^)]*\)", lambda match: re.sub(r"[^\n]", " ", match.group()), text)
            for match in re.finditer(r"(?<![\w:$])(crate|super|self|\w+)((?:\s*::\s*\w+)+)", paths):
                words = tuple(re.sub(r"\s", "", match.group()).split("::"))
                if words[0] in ("crate", "super", "self") or path + words[:1] in self.modules:
                    self.arrow(path, self.absolute(path, words), text, match.start())

    @staticmethod
    def uses(text):
        for match in re.finditer(r"^\s*(pub(?:\s*\([^)]*\))?\s+)?use\s+([^;]*);", text, re.M):
            yield match.start(2), bool(match.group(1)), match.group(2)

    def absolute(self, path, words):
        """Where a path that stands in a module leads, `None` where out of the crate."""
        if words[0] == "crate":
            return words[1:]
        if words[0] in ("super", "self"):
            while words and words[0] in ("super", "self"):
                path = path[:-1] if words[0] == "super" else path
                words = words[1:]
            return path + words
        return path + words if path + words[:1] in self.modules else None

    def resolve(self, target):
        """The module that a path leads to, through re-exports."""
        for _ in range(8):
            module = max((path for path in self.modules if target[:len(path)] == path), key=len)
            rest = target[len(module):]
            if not rest or rest[0] not in self.exports[module]:
                break
            target = self.exports[module][rest[0]] + rest[1:]
        return module

    def arrow(self, path, target, text, at):
        if target is not None:
            to = self.resolve(target)
            if to != path:
                self.arrows.append((path, to, text.count("\n", 0, at) + 1))


def circles(arrows):
    """The sets of files that lean on themselves (strongly connected, more than one)."""
    next_of = defaultdict(set)
    for here, there, _ in arrows:
        next_of[here].add(there)

    def reached(start):
        seen, todo = set(), [start]
        while todo:
            for there in next_of[todo.pop()] - seen:
                seen.add(there)
                todo.append(there)
        return seen

    reach = {here: reached(here) for here in list(next_of)}
    return {frozenset(there for there in reach[here] if here in reach.get(there, ())) for here in reach if here in reach[here]}


trees = {root: Tree(root) for root in ("engine/src", "bench-harness/src")}
for root, order in ORDERS.items():
    for here, there, line in trees[root].arrows:
        if here and there and here[0] in order and there[0] in order and order.index(here[0]) < order.index(there[0]):
            faults.append(f"{trees[root].modules[here]}:{line}: {here[0]} uses {there[0]}, which stands above it")
for room in ROOMS:
    tree = next(tree for root, tree in trees.items() if room.startswith(root))
    inside = {path for path, file in tree.modules.items() if file.startswith(room + "/")}
    arrows = [arrow for arrow in tree.arrows if arrow[0] in inside and arrow[1] in inside]
    for circle in sorted(circles(arrows), key=sorted):
        if room in allowed_circles:
            print(f"known: a circle of {len(circle)} files in {room}")
            continue
        for here, there, line in sorted(set(arrows)):
            if here in circle and there in circle:
                faults.append(f"{tree.modules[here]}:{line}: in a circle, by its use of {tree.modules[there]}")
wide = defaultdict(list)
for file in files:
    folder = max((folder for folder in allowed_wide if file.startswith(folder)), key=len, default="")
    for number, line in enumerate(open(file), 1):
        if len(line.rstrip("\n")) > WIDTH and not re.match(r"\s*//[/!] \|", line):
            wide[folder].append(f"{file}:{number}: {len(line) - 1} columns, {WIDTH} at most")
for folder, lines in wide.items():
    if len(lines) > allowed_wide.get(folder, 0):
        faults += lines
    elif folder:
        print(f"known: {len(lines)} wide lines in {folder}")
print("\n".join(faults) or "no upward import, no circle, no line too wide beyond those known")
sys.exit(bool(faults))
PYTHON
