"""A run: every implementation answers every case it supports, each environment in a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import FrameType

import msgspec

from conformance.cases import corpus, strategies
from conformance.cases.features import FEATURES
from conformance.hosts import availability, going_on
from conformance.hosts import environment as env
from conformance.hosts.environment import Limits, Worker, WorkerDied
from conformance.hosts.in_process import LocalWorker
from conformance.hosts.machine import describe_host
from conformance.hosts.roster import RosterEntry, environments
from conformance.judging.judgment import judge
from conformance.model import excluded, results
from conformance.model.case import Case
from conformance.model.codec import encode_case
from conformance.model.errors import Incomplete, InvalidInput
from conformance.model.outcome import Reply, encode_reply
from conformance.model.results import ImplementationRecord, Record, Result
from conformance.model.statement import Statement
from conformance.runs import commands
from conformance.runs.run_case import RunCase
from conformance.runs.run_file import RunFile


class Options(msgspec.Struct, frozen=True):
    """What to run, and how.

    requested: the implementations were asked for by name, so that a missing one makes the run incomplete.
    interpreters: another Python for an environment, by its name. jobs: how many environments run at a time, 0 for all.
    corpus: ask the named cases too. shard: (k, n), every n-th case from the k-th on. resume: keep what the folder's run
    judged, ask the rest.
    """

    entries: list[RosterEntry]
    out: Path
    seed: int = 0
    cases: int = strategies.DEFAULT
    corpus: bool = True
    requested: bool = False
    in_process: bool = False
    interpreters: dict[str, str] = {}
    jobs: int = 0
    shard: tuple[int, int] = (1, 1)
    resume: bool = False
    limits: Limits = Limits()
    command: list[str] = []


class Progress:
    """What a run tells while it runs; a command overrides what it shows."""

    def started(self, environment: str, questions: int) -> None:
        """An environment's worker has `questions` (case, implementation) pairs before it."""

    def advanced(self, environment: str) -> None:
        """One pair was judged."""

    def note(self, message: str) -> None:
        """Something a user should know."""


class Campaign:
    """One run in progress."""

    def __init__(self, options: Options, progress: Progress) -> None:
        self.options, self.progress = options, progress
        self._hosts = environments(options.entries, options.interpreters)
        self._jobs = threading.Semaphore(options.jobs or len(self._hosts))
        self._answered = set[tuple[str, str]]()
        self.records: list[Record] = []
        self.reasons: list[str] = []
        self.cpu: defaultdict[str, float] = defaultdict(float)
        self._lock, self._stop, self._began = threading.Lock(), threading.Event(), time.monotonic()
        self._workers: list[Worker | LocalWorker] = []
        self._unwritten: OSError | None = None

    def run(self) -> results.EndRecord:
        """Run to the end, or until interrupted; what was judged is on disk either way."""
        header = self._header()
        kept = resumable(self.options, header) if self.options.resume else []
        self.records += [header, *kept]
        with RunFile(self.options.out, self.records, clear=not kept) as self._file, self._interruptible():
            self._answered = {(result.case, result.implementation) for result in kept}
            try:
                items = self._items()
                threads = [threading.Thread(target=self._host, args=(host, items)) for host in self._hosts]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                if self._unwritten is None:
                    return self._close()
            except OSError as error:
                self._unwritten = self._unwritten or error
            raise Incomplete(self._cut_short(self._unwritten))

    def _cut_short(self, error: OSError) -> str:
        """Return what a run that could not be written says: where, why, what is kept, how to go on."""
        kept = len(results.read(self.options.out).results)
        words = [word for word in self.options.command[1:] if word != "--resume"]
        again = commands.line(*words, "--resume") if words else "run it again with --resume"
        return (
            f"{error.filename or self.options.out}: cannot be written ({error.strerror}); {kept} results are kept in "
            f"{self._file.path}; make room, and go on: {again}"
        )

    def _items(self) -> list[RunCase]:
        drawn: list[tuple[strategies.Recipe | corpus.Named, Case]] = []
        began = time.thread_time()
        drawn += strategies.cases(self.options.seed, self.options.cases)
        self.cpu["generating"] += time.thread_time() - began
        drawn += [(named, named.case) for named in corpus.read()] if self.options.corpus else []
        items = [RunCase(i, origin, case) for i, (origin, case) in enumerate(drawn)]
        for item in filter(self._is_in_shard, items):
            record = item.record()
            (self.options.out / record.file).write_bytes(encode_case(item.case, sealed=True))
            self._write(record)
        return items

    def _is_in_shard(self, item: RunCase) -> bool:
        number, shards = self.options.shard
        return item.index % shards == number - 1

    def _host(self, host: env.Environment, items: list[RunCase]) -> None:
        """Run one environment from its worker's start to its end, when its turn comes."""
        with self._jobs:
            try:
                if not self._stop.is_set():
                    self._host_now(host, items)
            except OSError as error:  # nothing more can be written, by anybody
                self._unwritten = self._unwritten or error
                self._stop.set()

    def _host_now(self, host: env.Environment, items: list[RunCase]) -> None:
        entries = [entry for entry in self.options.entries if entry.host == host.name]
        try:
            worker = self._worker(host)
        except WorkerDied as error:
            self._missing(entries, str(error))
            return
        self._workers.append(worker)
        try:
            self._ask(worker, self._available(entries, worker), items)
        except OSError:
            raise
        except Exception as error:
            self._incomplete(f"{host.name}: {type(error).__name__}: {error}")
        finally:
            worker.close()

    def _worker(self, host: env.Environment) -> Worker | LocalWorker:
        if self.options.in_process:
            return LocalWorker(host)
        log = self.options.out / f"{host.name}.log"
        log.write_bytes(b"")
        return Worker(host, self.options.limits, log, started=self._started)

    def _started(self, name: str, pid: int) -> None:
        self._write(results.WorkerRecord(name, pid))

    def _available(self, entries: list[RosterEntry], worker: Worker | LocalWorker) -> list[RosterEntry]:
        """Record what the worker can host, and return it."""
        announced = {listing.id: listing for listing in worker.hello.implementations}
        for entry in entries:
            listing = announced.get(entry.id, "its worker does not know it")
            self._listed(entry, availability.record(entry, listing, worker.hello.versions))
        return [entry for entry in entries if (a := announced.get(entry.id)) and a.available]

    def _missing(self, entries: list[RosterEntry], reason: str) -> None:
        for entry in entries:
            self._listed(entry, availability.record(entry, reason, {}))

    def _listed(self, entry: RosterEntry, record: ImplementationRecord) -> None:
        self._write(record)
        if record.available:
            return
        named = self.options.requested or entry.environment in self.options.interpreters
        optional = not named and availability.is_optional(record.reason, entry.statement.packages)
        tell = self.progress.note if optional else self._incomplete
        tell(f"{record.id} is not available: {record.reason}")

    def _ask(self, worker: Worker | LocalWorker, entries: list[RosterEntry], items: list[RunCase]) -> None:
        by_id = {entry.id: entry for entry in entries}
        pooled = {entry.id: _pooled(entry.statement, items) for entry in entries}
        asked = {item.index: [e.id for e in entries if self._is_asked(item, e, pooled[e.id])] for item in items}
        self.progress.started(worker.environment.name, sum(len(ids) for ids in asked.values()))
        self._tell_unasked(entries, {identity for ids in asked.values() for identity in ids})

        def questions() -> Iterator[going_on.AskedCase]:
            for item in items:
                if self._stop.is_set():
                    return
                if asked[item.index]:
                    yield going_on.AskedCase(item.index, item.case, asked[item.index])

        for reply in going_on.ask(worker, questions(), {entry.id: entry.statement for entry in entries}):
            self.judged(items[reply.request], by_id[reply.implementation], reply)
            self.progress.advanced(worker.environment.name)

    def _tell_unasked(self, entries: list[RosterEntry], asked: set[str]) -> None:
        """Tell of each implementation that no case is asked of, and which facts exclude it."""
        with self._lock:
            why = [(r.implementation, r.reason) for r in self.records if isinstance(r, Result) and r.reason]
        answered = {identity for _, identity in self._answered}
        for entry in entries:
            if entry.id not in asked | answered:
                own = excluded.brief((name, reason) for name, reason in why if name == entry.id)
                self.progress.note(f"{entry.id} is asked nothing: {own or 'no case of its signatures'}; ask more cases")

    def _is_asked(self, item: RunCase, entry: RosterEntry, pooled: list[strategies.Signature]) -> bool:
        """Whether an implementation gets a case; a compiled one gets pooled signatures only."""
        if (item.id, entry.id) in self._answered or not self._is_in_shard(item):
            return False
        named = isinstance(item.origin, corpus.Named) and item.origin.about.asks(entry.id)
        if entry.statement.compiled and not (item.signature or named):
            return False
        reason = entry.statement.unsupported(*item.facts)
        if reason:
            self._write(Result(item.id, entry.id, "UNSUPPORTED", reason=reason))
        return not reason and (not entry.statement.compiled or named or item.signature in pooled)

    def judged(self, item: RunCase, entry: RosterEntry, reply: Reply) -> list[Result]:
        """Judge an answer, and write and return the verdicts."""
        began = time.thread_time()
        found = judge(item.id, item.exact_case, entry.statement, reply)
        self._took({entry.id: reply.cpu, "judging": time.thread_time() - began})
        if any(result.failed for result in found):
            file = self.options.out / results.answer_file(item.id, entry.id)
            file.write_bytes(encode_reply(reply))  # before the verdict that needs it
        self._write(*found)
        return found

    def _took(self, cpu: dict[str, float]) -> None:
        with self._lock:
            for name, seconds in cpu.items():
                self.cpu[name] += seconds

    def _write(self, *records: Record) -> None:
        with self._lock:
            self._file.write(*records)
            self.records.extend(records)

    def _incomplete(self, reason: str) -> None:
        with self._lock:
            self.reasons.append(reason)
        self.progress.note(reason)

    @contextlib.contextmanager
    def _interruptible(self) -> Generator[None]:
        """Turn Ctrl-C and SIGTERM into a stop after the case in hand; a second one ends at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(_signal: int, _frame: FrameType | None) -> None:  # takes no lock: the main thread may hold it
            if self._stop.is_set():
                for worker in self._workers:
                    worker.kill()
                os._exit(3)  # all that was judged is on disk, and a thread may wait for a worker that hangs
            self._stop.set()

        kept = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for s, handler in kept.items():
                signal.signal(s, handler)

    def _header(self) -> results.RunRecord:
        o = self.options
        started = datetime.now(UTC).isoformat(timespec="seconds")
        about = version("batchnorm-conformance")
        shard, about_host = f"{o.shard[0]}/{o.shard[1]}", describe_host()
        return results.RunRecord(
            results.SCHEMA, about, o.seed, o.cases, o.command, started, about_host, shard, o.requested
        )

    def _close(self) -> results.EndRecord:
        verdicts = Counter(record.verdict for record in self.records if isinstance(record, Result))
        if self._stop.is_set():
            self._incomplete("the run was interrupted")
        if not verdicts["PASS"] + verdicts["FAIL"] and not self.reasons:
            why = results.why_nothing(record for record in self.records if isinstance(record, Result))
            self._incomplete(results.NOTHING + why)
        seconds = round(time.monotonic() - self._began, 3)
        cpu = {name: round(value, 3) for name, value in sorted(self.cpu.items())}
        end = results.EndRecord(not self.reasons, sorted(self.reasons), seconds, cpu, dict(sorted(verdicts.items())))
        self._write(end)
        self._file.finish(results.ordered(self.records, [entry.id for entry in self.options.entries]))
        return end


def _pooled(statement: Statement, items: list[RunCase]) -> list[strategies.Signature]:
    """Return the pooled signatures that an implementation gets: as many as it can pay for, and one of each feature.

    Of features it can pay for twice as many: most of their cases compile what plain ones compile too.
    """
    found = dict.fromkeys(i.signature for i in items if i.signature and not statement.unsupported(*i.facts))
    plain = [signature for signature in found if not signature.feature]
    featured = {signature.feature: signature for signature in reversed(found) if signature.feature}
    first = sorted(featured, key=list(FEATURES).index)  # what the matrix counts, before the edges
    return plain[: statement.signatures] + [featured[feature] for feature in first[: 2 * statement.signatures]]


def resumable(options: Options, header: results.RunRecord) -> list[Result]:
    """Return what an interrupted run of the same cases judged; the pair that its torn end may have cut is left out."""
    folder, before = options.out, results.read(options.out, mend=True)
    if gone := {r.implementation for r in before.results} - {entry.id for entry in options.entries}:
        raise InvalidInput(f"--resume: {folder} holds results of {min(gone)}; name it too with -i, or another --out")
    same = ("version", "seed", "cases", "shard")
    if differ := [name for name in same if getattr(before.header, name) != getattr(header, name)]:
        raise InvalidInput(
            f"--resume: {folder} holds a run with another {differ[0]}; ask for the same, or name another --out"
        )
    crashed = {(r.case, r.implementation) for r in before.results if r.outcome in ("Crashed", "TimedOut")}
    if before.torn and before.results:
        crashed.add((before.results[-1].case, before.results[-1].implementation))
    return [r for r in before.results if (r.case, r.implementation) not in crashed]
