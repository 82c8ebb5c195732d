"""Mutate the reference and count which mutants its tests kill: `python tests/mutants/reference_mutants.py`.

Every test of `tests/reference` but the slow ones against JAX is collected once. For each mutant a forked process puts
the mutated code into the functions that the tests already hold, and runs the tests until one fails: first those that
killed the mutants before it. A mutant of what is evaluated at import (defaults, constants) gets a fresh process. The
table says killed / total per module; survivors that `equivalent.toml` does not argue make the exit status 1.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import io
import os
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import types
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT), str(HERE)]

from named import NAMED  # noqa: E402 - found by the path above
from operators import mutants  # noqa: E402

TESTS = ["tests/reference", "reference", "--doctest-modules", "-k", "not autodiff"]
FIRST = [f"tests/reference/test_{name}.py" for name in ("edges", "validation", "readme")]
QUIET = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "--import-mode=importlib", "-W", "ignore"]
SECONDS = 25
MEMORY = 12


@dataclass(frozen=True)
class Candidate:
    """One mutant: its module, a label that stays when lines move, and its source."""

    module: str
    label: str
    source: str
    named: bool


def candidates(modules: list[str]) -> Iterator[Candidate]:
    """Yield the mutants of some modules: the operators' and the named ones."""
    for module in modules:
        source = (ROOT / "reference" / f"{module}.py").read_text()
        seen: Counter[str] = Counter()
        for mutant in mutants(source):
            seen[mutant.label] += 1
            label = mutant.label + (f"  #{seen[mutant.label]}" if seen[mutant.label] > 1 else "")
            yield Candidate(module, label, ast.unparse(mutant.tree), named=False)
        for named in NAMED:
            if named.module == module:
                assert source.count(named.before) == 1, f"{named.name!r} no longer fits reference/{module}.py"
                yield Candidate(module, f"named: {named.name}", source.replace(named.before, named.after), named=True)


def main() -> int:
    """Run what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("modules", nargs="*", help="modules of reference/ (default: all)")
    parser.add_argument("--named", action="store_true", help="only the named mutants")
    parser.add_argument("--match", metavar="TEXT", default="", help="only mutants whose label contains TEXT")
    chosen = parser.parse_args()
    names = chosen.modules or sorted(p.stem for p in (ROOT / "reference").glob("*.py") if p.stem != "__init__")
    os.chdir(ROOT)
    plugin = Plugin(names, chosen.match, only_named=chosen.named)
    pytest.main(["-s", *QUIET, *TESTS], plugins=[plugin])
    return plugin.status


class Plugin:
    """Pytest's loop, replaced by one over mutants."""

    def __init__(self, modules: list[str], match: str, *, only_named: bool) -> None:
        self.modules, self.match, self.only_named, self.status = modules, match, only_named, 2

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Judge every mutant by the collected tests."""
        runner = Runner(session)
        if runner.killer(lambda: None) is not None:
            print("the tests fail without a mutant; mend that first")
            return True
        chosen = [c for c in candidates(self.modules) if c.named or not self.only_named]
        self.status = report(runner, [c for c in chosen if self.match in c.label])
        return True


class Runner:
    """Runs the collected tests against one mutant after another, in forked processes."""

    def __init__(self, session: pytest.Session) -> None:
        self.session, self.items, self.recent = session, list(session.items), Counter[int]()

    def killer(self, mutate: Any) -> int | None:
        """Return the number of the first test that fails after `mutate`, or None; -1 if none could run in time."""
        order = [i for i, _ in self.recent.most_common(MEMORY)]
        order += [i for i in range(len(self.items)) if i not in set(order)]
        read, write = os.pipe()
        if not (child := os.fork()):
            os._exit(self._child(mutate, order, write))
        os.close(write)
        with os.fdopen(read) as pipe:
            answer = pipe.read()
        os.waitpid(child, 0)
        if answer == "survived":
            return None
        found = int(answer) if answer else -1
        self.recent[found] += found >= 0
        return found

    def _child(self, mutate: Any, order: list[int], write: int) -> int:
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)  # of this process alone: what never ends counts as killed
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, 1)
        os.dup2(devnull, 2)
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                mutate()
                answer = next((str(i) for i in order if self._fails(self.items[i])), "survived")
            except BaseException:  # a mutant may break anything
                answer = "-1"
        os.write(write, answer.encode())
        return 0

    def _fails(self, item: pytest.Item) -> bool:
        reports: list[Any] = []
        hook = item.ihook
        for phase in ("setup", "call", "teardown"):
            call = pytest.CallInfo.from_call(lambda phase=phase: _phase(item, phase), when=phase)  # type: ignore
            reports.append(hook.pytest_runtest_makereport(item=item, call=call))
            if reports[-1].failed:
                return True
            if reports[-1].skipped:
                break
        return False


def _phase(item: pytest.Item, phase: str) -> None:
    keywords = {"nextitem": None} if phase == "teardown" else {}
    getattr(item.ihook, f"pytest_runtest_{phase}")(item=item, **keywords)


def judge(runner: Runner, candidate: Candidate) -> bool:
    """Return whether a mutant is killed."""
    module = importlib.import_module(f"reference.{candidate.module}")
    if _at_import(module, candidate.source):
        return _killed_afresh(candidate)
    return runner.killer(lambda: _patch(module, candidate.source)) is not None


def _at_import(module: types.ModuleType, source: str) -> bool:
    """Return whether a mutant differs outside the bodies of functions: there, code cannot be exchanged."""

    def outside(text: str) -> str:
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                node.body = [ast.Pass()]
            elif isinstance(node, ast.Module | ast.ClassDef):
                node.body = [n for n in node.body if not isinstance(n, ast.Expr)] or [ast.Pass()]
        return ast.unparse(tree)

    assert module.__file__ is not None
    return outside(source) != outside(Path(module.__file__).read_text())


def _patch(module: types.ModuleType, source: str) -> None:
    """Put the code of a mutated source into the functions and methods of the module as it was imported."""
    sys.modules[module.__name__] = types.ModuleType(module.__name__)
    exec(compile(source, str(module.__file__), "exec"), sys.modules[module.__name__].__dict__)
    changed = sys.modules[module.__name__].__dict__
    sys.modules[module.__name__] = module
    for name, value in list(vars(module).items()):
        if getattr(value, "__module__", None) != module.__name__ or name not in changed:
            continue
        if isinstance(value, type):
            for attribute, method in list(vars(value).items()):
                if isinstance(method, types.FunctionType) and attribute in vars(changed[name]):
                    _exchange(method, vars(changed[name])[attribute])
        elif callable(value):
            _exchange(value, changed[name])


def _exchange(old: Any, new: Any) -> None:
    old, new = getattr(old, "__wrapped__", old), getattr(new, "__wrapped__", new)
    if isinstance(old, types.FunctionType) and len(old.__code__.co_freevars) == len(new.__code__.co_freevars):
        old.__code__ = new.__code__


def _killed_afresh(candidate: Candidate) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("reference", "conformance", "tests/reference", "tests/mutants"):
            (copy / name).parent.mkdir(exist_ok=True)
            if name == "reference":
                (copy / name).mkdir()
            else:
                (copy / name).symlink_to(ROOT / name)
        for path in (ROOT / "reference").iterdir():
            if path.name != f"{candidate.module}.py":
                (copy / "reference" / path.name).symlink_to(path)
        (copy / "reference" / f"{candidate.module}.py").write_text(candidate.source)
        return any(
            subprocess.run(command, cwd=copy, capture_output=True, timeout=600, check=False).returncode != 0
            for command in ([sys.executable, "-m", "pytest", *QUIET, *chosen] for chosen in (FIRST, TESTS))
        )


def report(runner: Runner, chosen: list[Candidate]) -> int:
    """Judge the mutants, print the table and the survivors; return 1 if one is unexplained."""
    argued = tomllib.loads((HERE / "equivalent.toml").read_text())
    total, killed, survivors, began = Counter[str](), Counter[str](), [], time.monotonic()
    for candidate in chosen:
        total[candidate.module] += 1
        if judge(runner, candidate):
            killed[candidate.module] += 1
        else:
            survivors.append(candidate)
            print(f"survives {candidate.module}: {candidate.label}", flush=True)
    print(f"\n{'module':<14} {'killed':>6} / total   of them named, in {time.monotonic() - began:.0f} s")
    for module in total:
        named = sum(c.module == module and c.named for c in chosen)
        print(f"{module:<14} {killed[module]:>6} / {total[module]:<7} {named:>5}")
    print(f"{'all':<14} {killed.total():>6} / {total.total():<7} {sum(c.named for c in chosen):>5}")
    unexplained = [s for s in survivors if s.label not in argued.get(s.module, {})]
    print(f"{len(survivors)} survive, {len(survivors) - len(unexplained)} argued to be equivalent in equivalent.toml")
    for survivor in unexplained:
        print(f"UNEXPLAINED {survivor.module}: {survivor.label}")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
