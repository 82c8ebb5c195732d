"""The jobs to copy, and the action: they parse, their commands exist, and their scripts do what they say."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from conformance.cli.main import main
from conformance.gate.decision import _SAYS
from conformance.hosts import compiled, machine
from conformance.runs import kept_recipes, kept_verdicts, run_file

ROOT = Path(__file__).parents[3]
CI = ROOT / "conformance" / "gate" / "ci"
ACTION = yaml.safe_load((CI / "action.yml").read_text())
BLOCKS = re.findall(r"```yaml\n(.*?)```", (CI / "README.md").read_text(), re.DOTALL)
SHARDED, ONE_MACHINE, PAGES, GITLAB = map(yaml.safe_load, BLOCKS)


def scripts():
    """Return every shell script of the jobs and of the action."""
    github = (SHARDED, ONE_MACHINE, PAGES)
    steps = [step for jobs in github for job in jobs["jobs"].values() for step in job["steps"]]
    steps += ACTION["runs"]["steps"]
    return [step["run"] for step in steps if "run" in step] + [
        line for job in GITLAB.values() for line in job["script"]
    ]


COMMANDS = [c for s in scripts() for c in re.findall(r"\bbnconf .*", s.replace("\\\n", " "))]


@pytest.fixture
def shell(tmp_path):
    """Run a script in the test's folder as a CI runner does, and return its exit status."""

    def go(script: str, **variables: str) -> int:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("GITHUB_")}
        environment |= {"PATH": path, "PYTHONPATH": str(ROOT), **variables}
        script = re.sub(r"\bbnconf\b", f"{shlex.quote(sys.executable)} -m conformance", script)
        return subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, env=environment, check=False).returncode

    return go


def test_there_are_commands_to_check():
    """Each of the three commands is used, in GitHub's jobs, in GitLab's and in the action; Pages need a report too."""
    assert sorted(command.split()[1] for command in COMMANDS) == sorted(
        3 * ["run", "merge", "gate"] + ["run", "report"]
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_exists(command):
    """No job names a command or an option that bnconf does not have."""
    name, found = command.split()[1], re.findall(r"(?<=[\s+{(])--?[a-z][a-z-]*", command)
    called = main.get_command(click.Context(main), name)
    options = {option for parameter in called.params for option in parameter.opts}
    assert found
    assert set(found) <= options


def test_the_table_of_exit_statuses_is_the_gates():
    """The page lists each status that the gate may exit with, and 2."""
    listed = re.findall(r"^\| (\d) \|", (CI / "README.md").read_text(), re.MULTILINE)
    assert {int(status) for status in listed} == {*_SAYS, 2}


def test_the_action_uses_its_inputs_and_no_other():
    """Every input reaches a step, through the environment and never as part of a script."""
    steps = ACTION["runs"]["steps"]
    used = {name for step in steps for name in re.findall(r"inputs\.(\w+)", str(step))}
    assert used == set(ACTION["inputs"])
    assert not any("${{" in step.get("run", "") for step in steps)
    assert (CI / "../../../constraints.txt").resolve() == ROOT / "constraints.txt"


@pytest.mark.parametrize("job", [SHARDED["jobs"]["judge"]["steps"], ACTION["runs"]["steps"]], ids=["shard", "action"])
def test_what_is_kept_between_jobs_is_what_bnconf_keeps(monkeypatch, job):
    """What is compiled, drawn and judged; environments, which are large and made anew in a minute, are not."""
    step, *saves = (step for step in job if "actions/cache" in step.get("uses", ""))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    kept = [compiled.folder().parent, kept_recipes.folder(), kept_verdicts.folder()]
    assert [Path(path).expanduser() for path in step["with"]["path"].split()] == kept
    assert step["with"]["key"].startswith(step["with"]["restore-keys"])
    assert all(save["with"]["path"] == step["with"]["path"] for save in saves)


def test_the_action_keeps_it_whether_the_gate_is_red_or_not():
    """It is saved between judging and the gate, under the name that it was looked for by."""
    uses = [step.get("uses", step["name"]) for step in ACTION["runs"]["steps"]]
    assert uses == ["Install", "actions/cache/restore@v4", "Judge", "actions/cache/save@v4", "Gate"]
    _, restore, _, save, _ = ACTION["runs"]["steps"]
    assert save["with"]["key"] == f"${{{{ steps.{restore['id']}.outputs.cache-primary-key }}}}"
    assert save["if"] == f"${{{{ !cancelled() && steps.{restore['id']}.outcome == 'success' }}}}"


def test_gitlab_keeps_the_folder_that_its_job_is_given(monkeypatch):
    """It keeps nothing outside the project, so that the cache is put into it."""
    judge = GITLAB["judge"]
    monkeypatch.setenv("XDG_CACHE_HOME", judge["variables"]["XDG_CACHE_HOME"].replace("$CI_PROJECT_DIR", "/builds/me"))
    assert [Path("/builds/me", path) for path in judge["cache"]["paths"]] == [machine.cache()]


def test_the_example_gives_the_action_inputs_that_it_has():
    """The example refers to the folder of action.yml, and sets inputs of it."""
    (step,) = (s for s in ONE_MACHINE["jobs"]["gate"]["steps"] if "conformance/gate/ci@" in s.get("uses", ""))
    assert set(step["with"]) <= set(ACTION["inputs"])


def action(shell, **inputs):
    """Run the steps of the action after the installation, as far as they go, and return the last exit status."""
    values = {name: str(about["default"]) for name, about in ACTION["inputs"].items()} | inputs
    status = 0
    for step in (step for step in ACTION["runs"]["steps"][1:] if "run" in step):
        if "if" in step and values["shard"] != "1/1":
            continue
        status = shell(step["run"], **{k: values[re.search(r"inputs\.(\w+)", v)[1]] for k, v in step["env"].items()})
        if status:
            break
    return status


def test_the_action_judges_and_gates(shell, adapter, manifest, tmp_path):
    """What conforms passes, what is wrong fails with 1, what is known passes again; the files are there."""
    assert action(shell, implementations="numpy.two_p* numpy.fast", cases="4") == 0
    assert {p.name for p in (tmp_path / "bnconf-run").iterdir()} >= {"junit.xml", "gate.sarif", "ctrf.json"}
    assert {r.id for r in run_file.read(tmp_path / "bnconf-run").implementations} == {
        "numpy.two_pass@cpu",
        "numpy.fast@cpu",
    }
    assert action(shell, implementations=adapter("wrong:BiasedForUnbiased"), cases="4") == 1
    known = str(manifest())
    assert action(shell, implementations=adapter("wrong:BiasedForUnbiased"), cases="4", divergences=known) == 0


def test_the_action_merges_shards(shell):
    """A shard is not gated; shards are merged and gated, and one that is missing is 3."""
    for k in (1, 2):
        assert action(shell, implementations="numpy.two_pass", cases="4", shard=f"{k}/2", out=f"s{k}") == 0
    assert action(shell, shards="s1 s2", out="merged") == 0
    assert action(shell, shards="s1", out="half") == 3


def small(script):
    """Return a script of a job on an implementation that is there, and few cases."""
    return script.replace("mypackage.module:MyBatchNorm", "numpy.two_pass --cases 4")


def test_the_job_of_pages_works_as_it_stands(shell, tmp_path):
    """Without a history that is published it begins one; with one it adds to it; what it publishes is a site."""
    scripts = [step["run"] for step in PAGES["jobs"]["publish"]["steps"] if "run" in step]
    run, fetch, report = (
        next(one for one in scripts if word in one) for word in ("bnconf run", "curl", "bnconf report")
    )
    for number in (1, 2):
        assert [shell(small(script)) for script in (run, fetch.replace("curl -sf", "false"), report)] == [0, 0, 0]
        assert len(json.loads((tmp_path / "site" / "runs.json").read_text())) == number
    assert (tmp_path / "site" / "badges" / "numpy.two_pass@cpu.svg").exists()


def test_the_gitlab_job_works_as_it_stands(shell):
    """Its four shards, merged and gated, are green; without one of them the gate says 3."""
    _, judge = GITLAB["judge"]["script"]
    _, merge, gate = GITLAB["gate"]["script"]
    for k in range(1, GITLAB["judge"]["parallel"] + 1):
        assert shell(small(judge), CI_NODE_INDEX=str(k), CI_NODE_TOTAL="4") == 0
    assert (shell(merge), shell(gate)) == (0, 0)
    assert (shell(f"rm -r shard-2; {merge}"), shell(gate)) == (0, 3)


def test_the_github_job_works_as_it_stands(shell):
    """Its shards, downloaded as artifacts are, merged and gated, are green."""
    jobs = SHARDED["jobs"]
    (judge,) = (s["run"] for s in jobs["judge"]["steps"] if "bnconf run" in s.get("run", ""))
    merge, gate = (s["run"] for s in jobs["gate"]["steps"] if s.get("run", "").startswith("bnconf"))
    for k in jobs["judge"]["strategy"]["matrix"]["shard"]:
        assert shell(small(judge).replace("${{ matrix.shard }}", str(k))) == 0
        assert shell(f"mkdir -p shards && mv shard shards/shard-{k}") == 0
    assert (shell(merge), shell(gate)) == (0, 0)
