"""A run: every implementation answers every case that it supports, each environment in a process of its own."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager

from conformance.cases import cells
from conformance.hosts import environment as env
from conformance.hosts import going_on
from conformance.hosts.environment import Worker, WorkerDied
from conformance.hosts.in_process import LocalWorker
from conformance.hosts.roster import RosterEntry
from conformance.judging.judgment import judge
from conformance.model import buffers, results
from conformance.model.errors import Incomplete
from conformance.model.outcome import Reply, reply_in_parts
from conformance.model.results import Result
from conformance.model.stopwatch import part
from conformance.runs import commands, fitting, gathering, resuming, run_file
from conformance.runs.case_files import CaseFiles
from conformance.runs.dealing import Deal
from conformance.runs.gathering import Gathered
from conformance.runs.holding import Held, lasting
from conformance.runs.interrupting import interruptible
from conformance.runs.kept_recipes import WantedRecipes
from conformance.runs.kept_verdicts import KeptVerdicts
from conformance.runs.ledger import Ledger
from conformance.runs.options import Options, header
from conformance.runs.places import Places
from conformance.runs.planning import Planning
from conformance.runs.progress import FailedReply, Progress
from conformance.runs.run_case import RunCase
from conformance.runs.taking_over import Earlier
from conformance.runs.turns import Turns

Observer = Callable[[RunCase, RosterEntry, Reply, list[Result]], None]
"""Called with each answer and its verdicts, in the thread of the environment that gave it."""


def _ignore(_item: RunCase, _entry: RosterEntry, _reply: Reply, _found: list[Result]) -> None:
    """Do nothing with an answer."""


class Campaign:
    """A run in progress.

    items: its cases, where they are not drawn.
    costs: seconds of CPU of implementations and starts in an earlier run: what takes longest begins first.
    """

    def __init__(
        self,
        options: Options,
        progress: Progress,
        observer: Observer = _ignore,
        items: list[RunCase] | None = None,
        costs: Mapping[str, float] | None = None,
    ) -> None:
        self.options, self.who, self.progress, self._observer = options, options.who, progress, observer
        self._hosts, self._given = self.who.workers(self._workers_at_most(), costs), items
        self._workers_in_all = sum(len(workers) for _, workers in self._hosts)
        self._jobs = options.jobs or (_cores() if self.who.measured(costs) else self._workers_in_all)
        self._files = CaseFiles(options.out)
        self.ledger, self._held, self._stop = Ledger(), Held(), threading.Event()
        deal = Deal(options.seed, options.cases if items is None else cells.DEFAULT, options.hands)
        earlier = Earlier(options.changed_since) if options.changed_since else None
        self._planning = Planning(self.who, deal, self.ledger, progress, self._incomplete, options.out, earlier)
        self._keeps = self.who.cache and options.keeps
        self._kept = KeptVerdicts(use=self._keeps and not self.who.in_process)
        self._workers: list[Worker | LocalWorker] = []
        self._gathered: Future[Gathered] = Future()
        self._unwritten: OSError | None = None
        self._failed_fast = False

    def run(self) -> results.EndRecord:
        """Run to the end, or until interrupted. What was judged is on disk either way."""
        begin = header(self.options)
        kept = resuming.kept(self.options.out, set(self._ids()), begin) if self.options.resume else []
        opened = self.ledger.opened(self.options.out, [begin, *kept], clear=not kept)
        with opened, self._kept.opened(), interruptible(self._stop, self._kill):
            self._planning.answered = {(result.case, result.implementation) for result in kept}
            try:
                self._tell_begun()
                threads = [threading.Thread(target=self._host, args=turn) for turn in self._in_turn()]
                for thread in threads:
                    thread.start()
                try:
                    self._gather()  # while the workers start
                    with lasting():
                        _join(threads)
                finally:
                    _join(threads)
                if self._unwritten is None:
                    return self._close()
            except OSError as error:
                self._unwritten = self._unwritten or error
            raise Incomplete(self._cut_short(self._unwritten))

    def _tell_begun(self) -> None:
        asked = {host.name: [entry.id for entry in self.who.hosted(host)] for host, _ in self._hosts}
        self.progress.begun(asked, {host.name: len(workers) for host, workers in self._hosts}, self._jobs)

    @property
    def interrupted(self) -> bool:
        """Whether somebody stopped it before its end."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Ask nothing more. What was judged is kept, and the run is incomplete."""
        self._stop.set()

    def _kill(self) -> None:
        for worker in self._workers:
            worker.kill()

    def _ids(self) -> list[str]:
        return [entry.id for entry in self.who.entries]

    def _cut_short(self, error: OSError) -> str:
        """Return what to say of a run that could not be written: where, why, what is kept, how to go on."""
        kept = len(run_file.read(self.options.out).results)
        words = [word for word in self.options.command[1:] if word != "--resume"]
        again = commands.line(*words, "--resume") if words else "run it again with --resume"
        return (
            f"{error.filename or self.options.out}: cannot be written ({error.strerror}); {kept} results are kept in "
            f"{self.ledger.path}; make room, and go on: {again}"
        )

    def _gather(self) -> None:
        try:
            self._gathered.set_result(self._of_run())
        except BaseException as error:  # a worker that waits for cases is to end, whatever there is
            self._stop.set()
            self._gathered.set_exception(error)
            raise

    def _of_run(self) -> Gathered:
        o, workers = self.options, self._workers_in_all
        ids = [entry.id for entry in self.who.entries]
        asked = WantedRecipes(o.seed, o.cases, o.profile)
        cases = gathering.drawn(asked, with_corpus=o.corpus, ids=ids, cache=self._keeps)
        if self._given is not None:
            cases = gathering.given(self._given)
        room = fitting.room(self.who.limits, min(o.jobs or workers, workers))  # the same whatever ran before
        found = gathering.gather(cases, o.shard, room, self._files, self.ledger)
        for reason in found.skipped:
            self._incomplete(reason)
        return found

    def _workers_at_most(self) -> int:
        """Return how many workers an environment may have: two, unless one may run at a time, or there is one core."""
        return 1 if self.who.in_process else min(2, _cores(), self.options.jobs or 2)

    def _in_turn(self) -> Iterator[tuple[env.Environment, Turns, AbstractContextManager[None]]]:
        """Yield every worker with what it takes turns at, and its place: the second ones of all environments last."""
        found: list[list[tuple[env.Environment, Turns]]] = []
        for host, workers in self._hosts:
            turns = Turns(host, self.who.hosted(host), len(workers))
            found.append([(worker, turns) for worker in workers])
        ordered = [one for each in itertools.zip_longest(*found) for one in each if one]
        places = Places(self._jobs, self.options.jobs or _cores(), len(ordered), len(self._hosts))
        for number, (worker, turns) in enumerate(ordered):
            yield worker, turns, places.taken(number)

    def _host(self, host: env.Environment, turns: Turns, place: AbstractContextManager[None]) -> None:
        """Run one worker, from its start to its end, when its turn comes."""
        with place:
            try:
                if not self._stop.is_set() and turns.pays():
                    self._host_now(host, turns)
            except OSError as error:  # nothing more can be written, by anybody
                self._unwritten = self._unwritten or error
                self._stop.set()

    def _host_now(self, host: env.Environment, turns: Turns) -> None:
        try:
            worker = self._worker(host)
        except WorkerDied as error:
            if turns.unanswerable():
                for entry in turns.entries:
                    self._planning.listed(entry, error, {})
                self.progress.started(turns.name, {})
            else:
                self.progress.note(f"{host.name} does not help: {error}")
            return
        self._workers.append(worker)
        try:
            self._ask(worker, turns)
        except OSError:
            raise
        except Exception as error:
            self._incomplete(f"{host.name}: {type(error).__name__}: {error}")
        finally:
            worker.close()
            self.ledger.spent.add(turns.name, {"start": worker.starting})
            self.ledger.spent.here(turns.name)

    def _worker(self, host: env.Environment) -> Worker | LocalWorker:
        if self.who.in_process:
            return LocalWorker(host)
        log = self.options.out / f"{host.name}.log"
        log.write_bytes(b"")
        return Worker(host, self.who.limits, log, started=self._started)

    def _started(self, name: str, pid: int) -> None:
        self.ledger.write(results.WorkerRecord(name, pid))

    def _ask(self, worker: Worker | LocalWorker, turns: Turns) -> None:
        gathered = self._gathered.result()
        turns.plan(lambda: self._planning.planned(worker, turns, gathered), worker.starting)
        by_id = {entry.id: entry for entry in turns.entries}

        def until_stopped() -> Iterator[going_on.AskedCase]:
            for question in turns.turn():
                if self._stop.is_set():
                    return
                yield question

        for reply in going_on.ask(worker, until_stopped(), {entry.id: entry.statement for entry in turns.entries}):
            self.ledger.spent.answered(turns.name, reply)
            seconds = self._judged(gathered.items[reply.request], by_id[reply.implementation], reply)
            turns.took(seconds)
            self.progress.advanced(turns.name, reply.implementation, seconds)

    def _judged(self, item: RunCase, entry: RosterEntry, reply: Reply) -> float:
        """Judge an answer, write the verdicts, report them; return the seconds of CPU that both took."""
        began = time.thread_time()
        with part("judge"):
            answer, found = self._kept.of(item.id, entry.statement, reply)
            if found is None:
                found = judge(item.id, self._held.exact_case(item), entry.statement, reply)
                self._kept.add(answer, found)
        judging = time.thread_time() - began
        self.ledger.took({entry.id: reply.cpu, "judging": judging})
        if any(result.failed for result in found):
            self._files.keep(item)
            file = self.options.out / run_file.answer_file(item.id, entry.id)
            with part("write"):
                buffers.write(file, reply_in_parts(reply), packed=True)  # before the verdict that needs it
        self.ledger.write(*found)
        self._tell_failures(item, entry, reply, [result for result in found if result.failed])
        self._observer(item, entry, reply, found)
        return reply.cpu + judging

    def _tell_failures(self, item: RunCase, entry: RosterEntry, reply: Reply, failures: list[Result]) -> None:
        """Report what fails as it occurs, and stop at the first such answer if that was asked for."""
        if not failures or self._stop.is_set():
            return
        self._held.exact_case(item)  # who tells of it asks for more of the case, even where the verdict was kept
        self.progress.failed(FailedReply(item, self._planning.records[entry.id], reply, failures))
        if self.options.fail_fast:
            self._failed_fast = True
            self._stop.set()
            self._incomplete(f"stopped at the first failure, as --fail-fast asks: {entry.id}")

    def _incomplete(self, reason: str, whose: str = "") -> None:
        self.ledger.incomplete(reason, whose)
        self.progress.note(reason)

    def _close(self) -> results.EndRecord:
        for identity, reason, number in self.ledger.counted.not_callable():
            self._incomplete(f"{identity}: {number} cases were not answered: {reason}", identity)
        if self._kept.taken:
            self.progress.note(self._kept.told())
        if self._stop.is_set() and not self._failed_fast:
            self._incomplete("the run was interrupted")
        if not self.ledger.counted.compared and not self.ledger.reasons:
            self._incomplete(results.NOTHING + results.why_nothing(self.ledger.counted.excluded()))
            return self.ledger.close(self._ids(), nothing=True)
        return self.ledger.close(self._ids())


def _cores() -> int:
    return os.cpu_count() or 1


def _join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join()
