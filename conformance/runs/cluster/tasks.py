"""The tasks of a Ray cluster: connected to, asked, waited for. Only here is Ray imported, where it is asked for."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import reference
from conformance.model.errors import Incomplete, InvalidInput
from conformance.model.version import NAME, version
from conformance.runs.cluster.blocks import Block, answer

RETRIES = 5
"""How often a block is asked again where its node or its process is lost."""
_SECONDS = 1.0
_PATIENCE = 5.0  # seconds for an address to answer
_SHARDS = (2, 32)
"""At least so many, so that a lost node costs little; at most so many, as each starts a worker."""
_OURS = (Path(__file__).parents[2], Path(reference.__file__).parent)


@contextlib.contextmanager
def connected(address: str) -> Generator[Any]:
    """Connect to a cluster, and yield Ray. Its nodes get this bnconf, whatever they have.

    address: HOST:PORT; empty: that of RAY_ADDRESS, or one on this machine, made for it if there is none.
    """
    _check(address)
    ray = _ray()
    # What Ray prints of lost nodes, pages of it, goes to stdout, where the table or JSON of the run is to stand alone.
    quiet = contextlib.redirect_stdout(io.StringIO())
    with quiet, tempfile.TemporaryDirectory(prefix="bnconf-") as staged:
        _stage(Path(staged))
        try:
            ray.init(
                address=address or None,
                runtime_env={"working_dir": staged},
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, ImportError, RuntimeError, ValueError) as error:
            said = " ".join(str(error).split())[:300]
            raise InvalidInput(f"--ray {address}: {said}; give the HOST:PORT of a cluster that runs") from error
        try:
            yield ray
        finally:
            ray.shutdown()


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # what is judged here is nobody else's business
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # workers on a CPU hide GPUs themselves
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise InvalidInput(f"--ray: {error}; pip install '{NAME}[ray]', or leave --ray out") from error


def _check(address: str) -> None:
    """Raise where nothing listens at an address: Ray itself would wait for a minute."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if address in ("", "auto"):
        return
    if not (colon and host and port.isdecimal()):
        raise InvalidInput(f"--ray {address}: must be HOST:PORT, for example --ray 10.0.0.1:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise InvalidInput(
            f"--ray {address}: does not answer ({error}); start a cluster there with `ray start --head`, or give the "
            "HOST:PORT of one that runs"
        ) from error


def _stage(folder: Path) -> None:
    """Copy bnconf into a folder, with what says its version."""
    for package in _OURS:
        shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    about = folder / f"{NAME.replace('-', '_')}-{version()}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {version()}\n")


def shards(ray: Any) -> int:
    """Return into how many shards a run is cut: one for each CPU of the cluster, within limits."""
    there = int(ray.cluster_resources().get("CPU", 0))
    if not there:
        raise Incomplete("--ray: the cluster has no CPU to run on; add a node with `ray start --address HOST:PORT`")
    least, most = _SHARDS
    return min(max(there, least), most)


def asked(
    ray: Any, blocks: Sequence[Block], stop: threading.Event, note: Callable[[str], None]
) -> Iterator[tuple[Block, bytes | Exception]]:
    """Yield each block with its archive, or why there is none, as they come, until all have or `stop` is set."""
    task = ray.remote(answer)
    pending = {task.options(**_needs(ray, block)).remote(block): block for block in blocks}
    nodes = _nodes(ray)
    while pending and not stop.is_set():
        ready, _ = ray.wait(list(pending), timeout=_SECONDS)
        for one in ready:
            yield pending.pop(one), _got(ray, one)
        nodes = _told(nodes, _nodes(ray), note)
    for one in pending:
        ray.cancel(one, force=True)


def _needs(ray: Any, block: Block) -> dict[str, Any]:
    """Return what a task needs. Where no node has a GPU it is asked without one, so that its worker says so."""
    has_gpu = ray.cluster_resources().get("GPU", 0) >= 1
    packages = {"pip": list(block.packages)} if block.packages else {}
    return {
        "name": block.name,
        "num_cpus": 1,
        "num_gpus": 1 if block.device != "cpu" and has_gpu else 0,
        "max_retries": RETRIES,
        "runtime_env": packages or None,
    }


def _nodes(ray: Any) -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def _told(before: set[str], now: set[str], note: Callable[[str], None]) -> set[str]:
    """Say which nodes are gone since, and return those that are there."""
    if gone := before - now:
        note(f"{len(gone)} of {len(before)} nodes are lost; what they were asked is asked again")
    return now


def _got(ray: Any, one: Any) -> bytes | Exception:
    try:
        return ray.get(one)
    except ray.exceptions.RayError as error:
        return error
