"""`bnconf run --ray`: a run over a cluster, shown while its blocks arrive."""

from __future__ import annotations

import threading
import time

from conformance.cli.telling import ToldFailures
from conformance.cli.terminal import say, terminal
from conformance.gate import divergences
from conformance.model.errors import Incomplete
from conformance.model.results import EndRecord, Run
from conformance.runs import estimating
from conformance.runs.campaign import Options
from conformance.runs.cluster import tasks
from conformance.runs.cluster.arrivals import Arrivals
from conformance.runs.cluster.blocks import Block, cut
from conformance.runs.interrupting import interruptible


def spread(options: Options, address: str, *, quiet: bool) -> EndRecord:
    """Run over the cluster at an address, and return how the run ended. What has arrived is on disk either way."""
    with tasks.connected(address) as ray:
        arrivals = Arrivals(options)
        blocks = cut(options, arrivals.shards() or tasks.shards(ray))
        return _Spread(options, arrivals, blocks, quiet=quiet).run(ray)


class _Spread:
    """A run over a cluster, in progress."""

    def __init__(self, options: Options, arrivals: Arrivals, blocks: list[Block], *, quiet: bool) -> None:
        self._options, self._arrivals, self._blocks = options, arrivals, blocks
        self._console, self._quiet = terminal(stderr=True), quiet
        self._telling, self._stop, self._began = ToldFailures(divergences.read()), threading.Event(), time.monotonic()
        self._lost: dict[str, list[str]] = {}

    def run(self, ray: object) -> EndRecord:
        """Ask every block that is left, until all have arrived, or somebody interrupts."""
        left = self._arrivals.left(self._blocks)
        self._say(f"{len(left)} blocks of {len(self._blocks)} to ask")
        pending = {block.name: block for block in left}
        with interruptible(self._stop, lambda: None):
            for block, came in tasks.asked(ray, left, self._stop, lambda text: self._say(f"note: {text}")):
                del pending[block.name]
                self._came(block, came, len(pending), len(left))
            self._tell_unanswered(list(pending.values()))
            return self._arrivals.close(time.monotonic() - self._began, self._lost)

    def _came(self, block: Block, came: bytes | Exception, pending: int, asked: int) -> None:
        try:
            if isinstance(came, Exception):
                raise Incomplete(f"{block.name} was not answered: {_said(came)}")
            run = self._arrivals.take(block, came)
        except Incomplete as error:
            self._lost[str(error)] = block.ids
            self._say(f"note: {error}")
            return
        done = asked - pending
        left = estimating.words((time.monotonic() - self._began) / done * pending)
        failing = sum(result.failed for result in run.results)
        self._say(
            f"{block.name}: {len(run.results):,} results, {failing} fail; {pending} blocks to come"
            + (f", {left}" if pending else "")
        )
        self._tell_failures(run)

    def _tell_failures(self, run: Run) -> None:
        """Say what fails, each kind once, and stop there if that was asked for."""
        for failed in () if self._quiet else self._arrivals.failed(run):
            for line in self._telling.lines(failed):
                say(self._console, line, indent=" " * 6)
        if self._options.fail_fast and any(result.failed for result in run.results):
            self._stop.set()

    def _tell_unanswered(self, pending: list[Block]) -> None:
        if pending:
            why = "stopped at the first failure" if self._options.fail_fast else "the run was interrupted"
            ids = [identity for block in pending for identity in block.ids]
            self._lost[f"{why}, {len(pending)} blocks are not answered; --resume asks them"] = ids

    def _say(self, text: str) -> None:
        if not self._quiet:
            say(self._console, text)


def _said(error: Exception) -> str:
    """Return the last line of what Ray says, which is what happened on the node."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:300]
