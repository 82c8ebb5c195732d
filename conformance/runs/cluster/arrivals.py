"""What has arrived of a run over a cluster: each block is on disk before the next, and all together are the run."""

from __future__ import annotations

import io
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from conformance.cases import corpus
from conformance.cases.recipe import Recipe
from conformance.model import buffers
from conformance.model.errors import Incomplete, InvalidInput
from conformance.model.outcome import decode_reply
from conformance.model.results import CaseRecord, EndRecord, ImplementationRecord, Result, Run
from conformance.runs import case_files, merging, run_file
from conformance.runs.campaign import Options, header
from conformance.runs.cluster.blocks import Block
from conformance.runs.progress import FailedReply
from conformance.runs.run_case import RunCase
from conformance.runs.run_file import RunFile

_SAME = ("version", "seed", "cases", "selected", "profile")


class Arrivals:
    """The folder of a run, and the blocks of it that have arrived.

    Cases and answers lie where a run has them. `blocks/` has a run file for each block until the run is complete.
    """

    def __init__(self, options: Options) -> None:
        """Empty the folder, unless the run there is gone on with."""
        self.options, self._folder = options, options.out / "blocks"
        if options.resume and not self._files():
            raise InvalidInput(f"--resume: {options.out} holds no blocks of a run with --ray; leave one of them out")
        self._begin = header(options)
        if not options.resume:
            shutil.rmtree(self._folder, ignore_errors=True)
        with RunFile(options.out, [self._begin], clear=not options.resume):
            self._folder.mkdir(exist_ok=True)
        self._records: dict[str, ImplementationRecord] = {}

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob(f"*.{run_file.FILE}*"))

    def _file(self, block: Block) -> Path | None:
        """Return the run file of a block that has arrived."""
        return next((path for path in self._files() if _name(path) == block.name), None)

    def shards(self) -> int | None:
        """Return into how many shards the run was cut that is gone on with; None if it begins."""
        found = {int(run_file.read(path).header.shard.partition("/")[2]) for path in self._files()}
        if len(found) > 1:
            raise InvalidInput(f"{self._folder}: has blocks of two runs; remove it, and leave --resume out")
        return next(iter(found), None)

    def left(self, blocks: Sequence[Block]) -> list[Block]:
        """Return the blocks that are to be asked: those that have not arrived whole."""
        names = {block.name for block in blocks}
        if strange := [path for path in self._files() if _name(path) not in names]:
            raise InvalidInput(f"--resume: {strange[0]} is not asked now; ask for the same, or name another --out")
        return [block for block in blocks if not self._is_whole(block)]

    def _is_whole(self, block: Block) -> bool:
        path = self._file(block)
        if path is None:
            return False
        run = run_file.read(path)
        if differ := [name for name in _SAME if getattr(run.header, name) != getattr(self._begin, name)]:
            raise InvalidInput(
                f"--resume: {path} is of a run with another {differ[0]}; ask for the same, or name another --out"
            )
        whole = run.complete or bool(run.end and run.end.nothing)
        same = {record.id for record in run.implementations} == set(block.ids)
        return whole and same and not self._differs(run)

    def take(self, block: Block, packed: bytes) -> Run:
        """Keep a block, and return its run; raise `Incomplete` where a node has other versions than those before it."""
        with tempfile.TemporaryDirectory(dir=self._folder) as place:
            zipfile.ZipFile(io.BytesIO(packed)).extractall(place)
            run = run_file.read(Path(place))
            if differs := self._differs(run):
                raise Incomplete(f"{block.name}: {differs}")
            for part in ("cases", "answers"):
                for file in (Path(place) / part).glob("*"):
                    file.replace(self.options.out / part / file.name)
            for log in Path(place).glob("*.log"):
                log.replace(self._folder / f"{block.name}.log")
            file = run_file.path_of(Path(place))
            file.replace(self._folder / f"{block.name}.{file.name}")
        return run

    def _differs(self, run: Run) -> str:
        """Return in what implementations are others than in the blocks before this one; empty where they are not."""
        for record in (one for one in run.implementations if one.available):
            other = self._records.setdefault(record.id, record)
            if merging.bare(other) != merging.bare(record):
                return (
                    f"{record.id} is another than on the nodes before it ({merging.versions(record)}; "
                    f"{merging.versions(other)}); give all nodes the same"
                )
        return ""

    def failed(self, run: Run) -> Iterator[FailedReply]:
        """Yield the answers of a block in which something fails."""
        records = {record.id: record for record in run.implementations}
        found: dict[tuple[str, str], list[Result]] = {}
        for result in run.results:
            if result.failed:
                found.setdefault((result.case, result.implementation), []).append(result)
        items: dict[str, RunCase] = {}
        for (case, identity), failures in sorted(found.items()):
            item = items.get(case) or items.setdefault(case, self._item(run, run.cases[case]))
            reply = decode_reply(buffers.read(self.options.out / run_file.answer_file(case, identity)))
            yield FailedReply(item, records[identity], reply, failures)

    def _item(self, run: Run, record: CaseRecord) -> RunCase:
        named = next((one for one in corpus.read() if one.name == record.name), None) if record.name else None
        origin = named or msgspec.convert(record.recipe, Recipe)
        return RunCase(record.index, origin, case_files.read(self.options.out, run, record))

    def close(self, seconds: float, lost: dict[str, list[str]]) -> EndRecord:
        """Write the run that the blocks make together, and remove them if it is complete.

        seconds: how long it took.
        lost: why blocks are missing, and the implementations that they were to ask.
        """
        if not self._files():
            raise Incomplete("; ".join(lost) or "no block was answered")
        ids = [entry.id for entry in self.options.who.entries]
        end = merging.join(self._files(), self.options.out, self.options.command, ids, seconds, lost)
        if end.complete:
            shutil.rmtree(self._folder)
        return end


def _name(path: Path) -> str:
    """Return the name of the block whose run file this is."""
    return path.name.partition(f".{run_file.FILE}")[0]
