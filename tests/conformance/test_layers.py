"""The layers hold, and each contract of import-linter notices when it is broken."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
LINTER = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
FRAMEWORKS = next(c["forbidden_modules"] for c in LINTER["contracts"] if c["id"] == "no-framework")
VIOLATIONS = [
    ("rooms", "conformance/model/case.py", "import conformance.runs.campaign"),
    ("rooms", "conformance/judging/step.py", "import conformance.hosts.roster"),
    ("rooms", "conformance/pytest_plugin.py", "import conformance.cli.console"),
    ("rooms", "conformance/newcomer.py", ""),
    ("inside-cli", "conformance/cli/options.py", "import conformance.cli.run"),
    ("inside-report", "conformance/report/svg.py", "import conformance.report.plots"),
    ("inside-studies", "conformance/studies/hunt/minimizing.py", "import conformance.studies.hunt.hunting"),
    ("inside-gate", "conformance/gate/divergences/__init__.py", "import conformance.gate.decision"),
    ("rooms", "conformance/studies/soaking.py", "import conformance.workbench.words"),
    ("inside-workbench", "conformance/workbench/words.py", "import conformance.workbench.given"),
    ("inside-runs", "conformance/runs/counts.py", "import conformance.runs.summary"),
    ("inside-judging", "conformance/judging/bounds/sums.py", "import conformance.judging.bounds.bounds"),
    ("inside-cases", "conformance/cases/feature.py", "import conformance.cases.features"),
    ("inside-hosts", "conformance/hosts/environment.py", "import conformance.hosts.roster"),
    ("inside-model", "conformance/model/case.py", "import conformance.model.codec"),
    ("reference-alone", "reference/spec.py", "import conformance.model.errors"),
    ("no-framework", "reference/spec.py", "import torch.nn"),
    ("no-framework", "conformance/judging/bounds/bounds.py", "from tensorflow import nn"),
    ("by-path", "conformance/runs/campaign.py", "from conformance.implementations import numpy"),
    ("strangers", "conformance/hosts/worker.py", "import conformance.model.codec"),
    ("strangers", "conformance/hosts/seen.py", "import conformance.model.case"),
    ("strangers", "conformance/implementations/numpy.py", "from reference import train"),
    ("strangers", "conformance/implementations/flax.py", "from ..hosts import worker"),
    ("neighbours", "conformance/implementations/torch.py", "from . import numpy"),
    ("neighbours", "conformance/implementations/torch_modules.py", "from .torch_compiled import Script"),
    ("neighbours", "conformance/implementations/newcomer.py", ""),
]


def lint(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run import-linter on a tree."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()"]
    return subprocess.run(
        [*command, "--no-cache", "--no-logo", *arguments], cwd=tree, capture_output=True, text=True, check=False
    )


def python(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)


def test_contracts_are_kept():
    """The code as it is keeps every contract."""
    found = lint(ROOT)
    assert found.returncode == 0, found.stdout
    assert f"Contracts: {len(LINTER['contracts'])} kept, 0 broken." in found.stdout


@pytest.mark.parametrize(("contract", "file", "line"), VIOLATIONS)
def test_contract_notices_a_violation(tmp_path: Path, contract: str, file: str, line: str):
    """A contract is broken by the one import that it forbids."""
    for package in LINTER["root_packages"]:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / file).open("a") as module:
        module.write(f"{line}\n")
    found = lint(tmp_path, "--contract", contract)
    assert found.returncode == 1
    assert "Contracts: 0 kept, 1 broken." in found.stdout, found.stdout


def test_every_contract_has_a_violation():
    """No contract goes without a test that it can be broken."""
    assert {contract for contract, _, _ in VIOLATIONS} == {contract["id"] for contract in LINTER["contracts"]}


def test_host_loads_no_framework():
    """Importing everything of ours that the host uses, the command line included, loads no framework."""
    theirs = {ROOT / "conformance" / name for name in ("implementations", "studies/translation/tutorial")}
    files = [p for p in (ROOT / "conformance").rglob("*.py") if not theirs & {*p.parents} and p.stem != "__main__"]
    host = sorted(".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for p in files)
    modules = ["reference", *host]
    assert len(host) > 100
    loaded = python(f"import sys, {', '.join(modules)}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))")
    assert loaded.returncode == 0, loaded.stderr
    assert not set(FRAMEWORKS) & set(loaded.stdout.split())


@pytest.mark.parametrize("room", ["gate", "report"])
def test_what_reads_a_run_loads_nothing_that_makes_one(room: str):
    """The gate and the report read a run and the cells, as data: they draw no case, and start no process."""
    files = (ROOT / "conformance" / room).rglob("*.py")
    modules = sorted(".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for p in files)
    loaded = python(f"import sys, {', '.join(modules)}; print(*sys.modules)")
    assert loaded.returncode == 0, loaded.stderr
    makers = {"hypothesis", "conformance.runs.campaign", "conformance.hosts.environment"}
    assert not makers & set(loaded.stdout.split())


def test_reference_depends_on_numpy_only():
    """The reference loads NumPy and the standard library; binary128 only once it is asked for."""
    loaded = python("import sys, reference.precision; print('numpy_quaddtype' in sys.modules)")
    assert loaded.stdout.strip() == "False", loaded.stderr
    graph = grimp.build_graph("reference", include_external_packages=True, cache_dir=None)
    outside = {name for name in graph.modules if graph.is_module_squashed(name)}
    assert outside - sys.stdlib_module_names == {"numpy", "numpy_quaddtype"}
