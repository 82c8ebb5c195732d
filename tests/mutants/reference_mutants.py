"""Mutate the reference and count which mutants its tests kill: `python tests/mutants/reference_mutants.py`.

Every test of `tests/reference` is collected once, but for the slow ones against JAX and those that start pytest anew,
with no mutant in it. For each mutant a forked process puts the mutated code into the functions that the tests already
hold, and runs the tests until one fails (`runner.py` says in which order). A mutant of what is evaluated at import
(fields, constants) gets a fresh process. The table says killed / total per module; survivors that `equivalent.toml`
does not argue make the exit status 1.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import subprocess
import sys
import tempfile
import time
import tomllib
import types
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT), str(HERE)]

from named import NAMED  # noqa: E402 - found by the path above
from operators import mutants  # noqa: E402
from runner import Runner  # noqa: E402

TESTS = ["tests/reference", "reference", "--doctest-modules", "-k", "not autodiff and not directory"]
FIRST = [f"tests/reference/test_{name}.py" for name in ("edges", "validation", "readme")]
QUIET = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "--import-mode=importlib", "-W", "ignore"]


@dataclass(frozen=True)
class Candidate:
    """One mutant: its module, a label that stays when lines move, its source, and the lines that it changes."""

    module: str
    label: str
    source: str
    lines: range
    named: bool


def candidates(modules: list[str]) -> Iterator[Candidate]:
    """Yield the mutants of some modules: the operators' and the named ones."""
    for module in modules:
        source = (ROOT / "reference" / f"{module}.py").read_text()
        seen: Counter[str] = Counter()
        for mutant in mutants(source):
            seen[mutant.label] += 1
            label = mutant.label + (f"  #{seen[mutant.label]}" if seen[mutant.label] > 1 else "")
            lines = range(mutant.line, mutant.line + 1)
            yield Candidate(module, label, ast.unparse(mutant.tree), lines, named=False)
        for named in NAMED:
            if named.module == module:
                assert source.count(named.before) == 1, f"{named.name!r} no longer fits reference/{module}.py"
                first = source[: source.index(named.before)].count("\n") + 1
                lines = range(first, first + named.before.count("\n") + 1)
                changed = source.replace(named.before, named.after)
                yield Candidate(module, f"named: {named.name}", changed, lines, named=True)


def main() -> int:
    """Run what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("modules", nargs="*", help="modules of reference/ (default: all)")
    parser.add_argument("--named", action="store_true", help="only the named mutants")
    parser.add_argument("--match", metavar="TEXT", default="", help="only mutants whose label contains TEXT")
    parser.add_argument(
        "--jobs", metavar="N", type=int, default=1, help="how many mutants to run at a time (default: 1)"
    )
    chosen = parser.parse_args()
    names = chosen.modules or sorted(p.stem for p in (ROOT / "reference").glob("*.py") if p.stem != "__init__")
    os.chdir(ROOT)
    plugin = Plugin(names, chosen.match, max(chosen.jobs, 1), only_named=chosen.named)
    pytest.main(["-s", *QUIET, *TESTS], plugins=[plugin])
    return plugin.status


class Plugin:
    """Pytest's loop, replaced by one over mutants."""

    def __init__(self, modules: list[str], match: str, jobs: int, *, only_named: bool) -> None:
        self.modules, self.match, self.jobs, self.only_named, self.status = modules, match, jobs, only_named, 2

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Judge every mutant by the collected tests."""
        runner = Runner(session, ROOT / "reference")
        if failed := runner.measure():
            print("these tests fail without a mutant; mend that first:", *failed, sep="\n")
            return True
        chosen = [c for c in candidates(self.modules) if c.named or not self.only_named]
        self.status = report(runner, [c for c in chosen if self.match in c.label], self.jobs)
        return True


def mutate(candidate: Candidate) -> Callable[[], bool] | None:
    """Put a mutant's code where the tests will run it; one of what is evaluated at import is judged by other means."""
    module = importlib.import_module(f"reference.{candidate.module}")
    if _at_import(module, candidate.source):
        return lambda: _killed_afresh(candidate)
    _patch(module, candidate.source)
    return None


def _at_import(module: types.ModuleType, source: str) -> bool:
    """Return whether a mutant differs outside of functions and their defaults: there, nothing can be exchanged."""

    def outside(text: str) -> str:
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                node.body = [ast.Pass()]
                node.args.defaults, node.args.kw_defaults = [], [None for _ in node.args.kwonlyargs]
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
                if attribute in vars(changed[name]):
                    _exchange(method, vars(changed[name])[attribute])
        elif callable(value):
            _exchange(value, changed[name])


def _exchange(old: Any, new: Any) -> None:
    old, new = getattr(old, "__wrapped__", old), getattr(new, "__wrapped__", new)
    if isinstance(old, types.FunctionType) and len(old.__code__.co_freevars) == len(new.__code__.co_freevars):
        old.__code__, old.__defaults__, old.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__


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


def report(runner: Runner, chosen: list[Candidate], jobs: int) -> int:
    """Judge the mutants, print the table and the survivors; return 1 if one is unexplained."""
    argued = tomllib.loads((HERE / "equivalent.toml").read_text())
    total, killed, survivors, began = Counter(c.module for c in chosen), Counter[str](), [], time.monotonic()
    for candidate, dead in runner.judge(chosen, mutate, jobs):
        killed[candidate.module] += dead
        if not dead:
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
