#!/usr/bin/env bash
# Plants faults in the engine's sources, one at a time, and demands that the test or model which is named for each fails
# with it. The faults stand in scripts/mutation.toml, which says at its head how. Works on a copy in target/mutation: the
# sources stay as they are.
#
# All of them are built at once, each behind a question of its own that an environment variable answers, so that one
# costs no build but only the run of its killer. Before that each killer is run without a fault: one that fails anyway
# proves nothing. Needs python3 (3.11), of which it uses the standard library alone.
#
# usage: mutation.sh [--check | --hunt] [--sample N [--seed S]] [NAME...]
#   --check      only whether each fault's text is still there, exactly once
#   --hunt       which of all tests and models fail with these faults, on real threads, whatever is named for them
#   --sample N   N faults by chance; the seed is the commit's unless one is given
#   NAME         only these
source "$(dirname "$0")/common.sh"
exec python3 - "$@" <<'PYTHON'
import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor

LIST = "scripts/mutation.toml"
SOURCES = "engine/src"
BASE = os.path.abspath("target/mutation")
TREE = os.path.join(BASE, "tree")
# How long a killer may take, in seconds, and how long one that is to hang is watched.
LIMIT = 120
HANGS_AFTER = 10
FIELDS = {"file", "old", "new", "killer", "survives", "hangs", "before", "tries", "limit"}
ASK = """
/// Whether this fault was chosen.
pub(crate) fn planted(name: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("RINGMAIN_PLANTED").ok()).as_deref() == Some(name)
}
"""


def fail(*lines):
    print(*lines, sep="\n")
    sys.exit(1)


def parse_arguments():
    parser = argparse.ArgumentParser(prog="mutation.sh")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--hunt", action="store_true")
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seed")
    parser.add_argument("names", nargs="*")
    return parser.parse_args()


def read_list():
    """All faults by name, each with the place of its text."""
    with open(LIST, "rb") as file:
        faults = tomllib.load(file)
    wrong = []
    for name, fault in faults.items():
        where = f"{LIST}: {name}:"
        if not fault.keys() <= FIELDS or not fault.keys() >= {"file", "old", "new"}:
            wrong.append(f"{where} has other fields than {sorted(FIELDS)}, or not enough")
            continue
        if not all(isinstance(fault[field], str) for field in ("file", "old", "new")):
            wrong.append(f"{where} its file and its texts are to stand in quotes")
            continue
        if ("killer" in fault) == ("survives" in fault):
            wrong.append(f"{where} names a killer, or says why it survives, and not both")
        if "killer" in fault and not re.fullmatch(r"(test \w+|unit|model|loom) [\w:]+", fault["killer"]):
            wrong.append(f"{where} a killer is `test FILE NAME`, `unit NAME`, `model NAME` or `loom NAME`")
        path = os.path.join(SOURCES, fault["file"])
        if not os.path.exists(path):
            wrong.append(f"{where} there is no {path}")
            continue
        found = places(open(path).read(), fault["old"], fault.get("before", ""))
        if len(found) != 1:
            wrong.append(f"{where} its text is {len(found)} times in {path}, and must be there once")
            continue
        fault["span"] = found[0]
        complaint = unfit(open(path).read(), fault)
        if complaint:
            wrong.append(f"{where} {complaint}")
    if wrong:
        fail(*wrong)
    return faults


def unfit(text, fault):
    """Why the text cannot become a choice between itself and the fault, as far as that shows without a compiler."""
    old, first = fault["old"].strip(), fault["span"][0]
    line_before = text[:first].rstrip().rsplit("\n", 1)[-1]
    if line_before.endswith(".") and "//" not in line_before or old.startswith("."):
        return "its text is no whole expression: take what stands before the dot as well"
    if re.match(r"[\w:]+(\([^()]*\)|\s*\{[^{}]*\})?\s*=>", old):
        return "its text is an arm of a match: take what stands behind the arrow, and the rest as `before`"
    if re.match(r"let (mut )?(?!_\b)\w+\b", old):
        return "its text binds what stands behind it: take the value alone"
    return None


def places(text, old, before):
    """Where the text stands in the code of a file, whatever its line breaks; its tests, at the end, are left out."""
    tests = re.search(r"^#\[cfg\((all\()?test\b[^\n]*\nmod ", text, re.M)
    code = text[:tests.start()] if tests else text
    pattern = [r"\s+".join(re.escape(part) for part in words.split()) for words in (before, old)]
    return [match.span(1) for match in re.finditer(rf"{pattern[0]}\s*({pattern[1]})", code)]


def choice(name, fault, old):
    """Code that does one thing or the other."""
    ask = f'crate::planted("{name}")'
    if old.rstrip().endswith((";", "}")) and not old.rstrip().startswith("{"):
        return f"if {ask} {{ {fault['new']} }} else {{ {old} }}"
    return f"(if {ask} {{ {fault['new']} }} else {{ {old} }})"


def weave(text, faults, start=0, end=None):
    """A part of the text with all the faults in it. One may lie within another's; they may not overlap otherwise."""
    end = len(text) if end is None else end
    woven, at = "", start
    faults = sorted(faults, key=lambda each: (each[1]["span"][0], -each[1]["span"][1]))
    while faults:
        (name, fault), faults = faults[0], faults[1:]
        first, last = fault["span"]
        inner = [each for each in faults if each[1]["span"][0] < last]
        faults = faults[len(inner):]
        if any(each[1]["span"][1] > last for each in inner):
            fail(f"{LIST}: the texts of {name} and {inner[0][0]} overlap: choose others")
        woven += text[at:first] + choice(name, fault, weave(text, inner, first, last))
        at = last
    return woven + text[at:end]


def write(path, text):
    """Leaves a file alone that is as it should be, so that nothing is built anew for it."""
    if os.path.exists(path) and open(path, "rb").read() == text:
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(text)


def tree(faults):
    """Makes the copy, with all faults in it."""
    listed = subprocess.check_output(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], text=True)
    files = {file for file in listed.split("\0") if file and os.path.exists(file)}
    for folder, _, names in os.walk(TREE):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.relpath(path, TREE) not in files:
                os.remove(path)
    for file in files:
        text = open(file, "rb").read()
        here = [each for each in faults.items() if os.path.join(SOURCES, each[1]["file"]) == file]
        if here:
            text = weave(text.decode(), here).encode()
        if file == os.path.join(SOURCES, "lib.rs"):
            text += ASK.encode()
        write(os.path.join(TREE, file), text)
        os.chmod(os.path.join(TREE, file), os.stat(file).st_mode)


def environment(**more):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RINGMAIN_")}
    # What it says of the planted code does not matter, and unwoven code is held to its warnings elsewhere.
    kept |= {"CARGO_TARGET_DIR": os.path.join(BASE, "build"), "RUSTFLAGS": "-A warnings", "CARGO_INCREMENTAL": "1"}
    return kept | {"CARGO_PROFILE_DEV_DEBUG": "0", "RUST_BACKTRACE": "0"} | more


LOOM = {"CARGO_TARGET_DIR": os.path.join(BASE, "loom")}


def targets(killers):
    """What cargo is to build for these killers, but for those under loom."""
    packages = {}
    for kind, *names in (killer.split() for killer in killers):
        if kind == "test":
            packages.setdefault("ringmain", set()).add(("--test", names[0]))
        elif kind == "unit":
            packages.setdefault("ringmain", set()).add(("--lib",))
        elif kind == "model":
            packages.setdefault("ringmain-loom-tests", set()).add(("--test", "models"))
    return packages


def build(killers, everything=False):
    """Builds what holds the killers. Returns the programs by name, or as a text why there are none."""
    programs = {}
    packages = targets(killers)
    if everything:
        packages = {"ringmain": {("--lib",), ("--tests",)}, "ringmain-loom-tests": {("--tests",)}}
    for package, which in packages.items():
        command = ["cargo", "test", "--quiet", "--no-run", "--message-format=json", "--package", package]
        command += [word for words in sorted(which) for word in words]
        run = subprocess.run(command, cwd=TREE, env=environment(), capture_output=True, text=True)
        messages = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
        if run.returncode != 0:
            return None, complaints(messages) or run.stderr
        for message in messages:
            if message.get("executable") and message["profile"]["test"]:
                name = "unit" if message["target"]["kind"] == ["lib"] else message["target"]["name"]
                programs[name] = (message["executable"], os.path.dirname(message["manifest_path"]))
    if any(killer.startswith("loom ") for killer in killers):
        # As the gate builds them. The list is only asked for to have them built.
        command = ["scripts/loom.sh", "--list"]
        run = subprocess.run(command, cwd=TREE, env=environment(**LOOM), capture_output=True, text=True)
        if run.returncode != 0:
            return None, run.stderr
    return programs, None


def complaints(messages):
    """The compiler's errors, each with the fault in whose text it lies."""
    texts = []
    for message in (message["message"] for message in messages if message.get("reason") == "compiler-message"):
        if message["level"] != "error":
            continue
        for span in message["spans"][:1]:
            lines = open(os.path.join(TREE, span["file_name"])).read().splitlines()[:span["line_end"]]
            planted = re.findall(r'crate::planted\("([^"]+)"\)', "\n".join(lines))
            texts.append(f"perhaps by {planted[-1]}:" if planted else "")
        texts.append(message["rendered"])
    return "\n".join(texts)


def command_of(killer, programs):
    kind, *names = killer.split()
    if kind == "loom":
        return ["scripts/loom.sh", names[0], "--exact"], TREE, environment(**LOOM)
    program, folder = programs[{"test": names[0], "unit": "unit", "model": "models"}[kind]]
    return [program, names[-1], "--exact"], folder, environment(CARGO_MANIFEST_DIR=folder)


def run(killer, programs, planted, limit):
    """How the run of a killer ended: `passed`, `failed`, `hung`, or `missing` where there is none of that name."""
    command, folder, env = command_of(killer, programs)
    if planted:
        env |= {"RINGMAIN_PLANTED": planted}
        if killer.startswith("loom "):
            # A model with a fault need not see all that is possible, and is given a limited time.
            env |= {"RINGMAIN_MUTANT": "planted"}
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        try:
            status = child.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            return "hung"
        log.seek(0)
        text = log.read().decode(errors="replace")
    if "running 1 test\n" not in text:
        return "missing"
    return "passed" if status == 0 else "failed"


def judge(name, fault, programs):
    """What became of a fault, and whether that is right."""
    hangs = fault.get("hangs", False)
    limit = fault.get("limit", HANGS_AFTER if hangs else LIMIT)
    for _ in range(fault.get("tries", 1)):
        ended = run(fault["killer"], programs, name, limit)
        if ended == "failed":
            return True, "killed"
        if ended == "hung":
            return hangs, "killed: it hangs" if hangs else f"HANGS for {limit} s, and the list does not say so"
    return False, "SURVIVED" if ended == "passed" else ended


def hunt(faults, programs):
    """Which tests fail with each fault."""
    for name in [None, *faults]:
        failed = []
        for program, (path, folder) in sorted(programs.items()):
            env = environment(CARGO_MANIFEST_DIR=folder) | ({"RINGMAIN_PLANTED": name} if name else {})
            command = [path, "--skip", "mutants::"]
            try:
                ended = subprocess.run(
                    command, cwd=folder, env=env, capture_output=True, text=True, timeout=4 * LIMIT, errors="replace")
            except subprocess.TimeoutExpired:
                failed.append(f"{program} (hangs)")
                continue
            tests = re.findall(r"^test (\S+) .*FAILED$", ended.stdout, re.M)
            failed += [f"{program} {test}" for test in tests]
            if ended.returncode not in (0, 101):
                failed.append(f"{program} (died of {ended.returncode})")
        print(f"{name or 'without a fault'}: {', '.join(failed) or 'nothing fails'}", flush=True)


def main():
    arguments = parse_arguments()
    everything = read_list()
    strange = [name for name in arguments.names if name not in everything]
    if strange:
        fail(f"there are no such faults: {', '.join(strange)}")
    if arguments.check:
        print(f"each of {len(everything)} faults has its place")
        return
    started = time.monotonic()
    chosen = arguments.names or list(everything)
    if arguments.sample is not None:
        head = subprocess.run(["git", "rev-parse", "--short=8", "HEAD"], capture_output=True, text=True).stdout.strip()
        seed = arguments.seed or head or "0"
        can_be_killed = [name for name in chosen if "killer" in everything[name]]
        chosen = random.Random(seed).sample(can_be_killed, min(arguments.sample, len(can_be_killed)))
        print(f"{len(chosen)} of {len(can_be_killed)} faults, seed {seed}")
    chosen = {name: everything[name] for name in chosen}
    survivors = [name for name, fault in chosen.items() if "survives" in fault]
    killers = sorted({fault["killer"] for fault in chosen.values() if "killer" in fault})
    tree(everything)
    programs, wrong = build(killers, arguments.hunt)
    if wrong:
        fail(wrong, "the faults do not compile")
    print(f"built in {time.monotonic() - started:.0f} s", flush=True)
    if arguments.hunt:
        return hunt(chosen, programs)

    sound, bad = set(), []
    # Several at once: tests mostly wait, and those that hang do nothing else.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        ends = pool.map(lambda killer: run(killer, programs, None, LIMIT), killers)
        for killer, ended in zip(killers, ends):
            if ended == "passed":
                sound.add(killer)
            else:
                bad.append(f"{killer} without a fault: {ended}")
                print(bad[-1], flush=True)
    print(f"{len(sound)} killers pass without a fault, after {time.monotonic() - started:.0f} s", flush=True)

    def verdict_of(name):
        began = time.monotonic()
        is_right, verdict = judge(name, chosen[name], programs)
        print(f"{name}: {verdict} ({chosen[name]['killer']}, {time.monotonic() - began:.1f} s)", flush=True)
        return [] if is_right else [f"{name}: {verdict}"]

    tried = [name for name, fault in chosen.items() if fault.get("killer") in sound]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        wrong = [line for lines in pool.map(verdict_of, tried) for line in lines]
    killed = len(tried) - len(wrong)
    bad += wrong
    took = time.monotonic() - started
    print(f"{killed} killed, {len(survivors)} known to survive, {len(bad)} wrong, in {took:.0f} s")
    for name in survivors:
        print(f"  {name} survives: {chosen[name]['survives']}")
    if bad:
        fail("", *bad)


main()
PYTHON
