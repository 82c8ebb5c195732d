"""A run while it runs: bars in a terminal, plain lines elsewhere, how long it still takes, and what fails."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

from conformance.cli.telling import ToldFailures
from conformance.cli.terminal import say, terminal
from conformance.gate import divergences
from conformance.gate.explanation import Explained
from conformance.runs import estimating
from conformance.runs.estimating import Costs, Estimate
from conformance.runs.progress import FailedReply, Progress

_WHOLE = "everything"


class _Watched(Progress):
    """What both ways to watch a run share: the estimate, and what has failed. Lines go to a console."""

    def __init__(self, console: Console, telling: ToldFailures, estimate: Estimate) -> None:
        self.console, self._telling, self.estimate = console, telling, estimate

    def begun(self, asked: Mapping[str, Sequence[str]], workers: Mapping[str, int], places: int) -> None:
        self.estimate.begun(asked, workers, places)

    def started(self, environment: str, questions: Mapping[str, int]) -> None:
        self.estimate.started(environment, questions)

    def advanced(self, environment: str, implementation: str, seconds: float) -> None:  # noqa: ARG002 - as above
        self.estimate.advanced(implementation, seconds)

    def failed(self, failed: FailedReply) -> None:
        for line in self._telling.lines(failed):
            say(self.console, line, indent=" " * 6)

    def note(self, message: str) -> None:
        say(self.console, f"note: {message}")


class _Left(ProgressColumn):
    """How long the run still takes, beside the bar of everything."""

    max_refresh = 1.0  # seconds

    def __init__(self, estimate: Estimate) -> None:
        super().__init__()
        self._estimate = estimate

    def render(self, task: Task) -> Text:
        """Return how long; nothing beside an environment's bar."""
        return Text(estimating.words(self._estimate.left()) if task.description == _WHOLE else "")


class _Bars(_Watched):
    """A bar per environment, and one of everything."""

    def __init__(self, bars: Bars, telling: ToldFailures, estimate: Estimate) -> None:
        super().__init__(bars.console, telling, estimate)
        self._bars, self._tasks, self._total = bars, dict[str, TaskID](), 0
        self._whole: TaskID | None = None

    def begun(self, asked: Mapping[str, Sequence[str]], workers: Mapping[str, int], places: int) -> None:
        super().begun(asked, workers, places)
        for task in (*self._tasks.values(), *([] if self._whole is None else [self._whole])):
            self._bars.remove_task(task)  # of a run before this one
        self._tasks, self._total = {}, 0
        self._whole = self._bars.add_task(_WHOLE, total=None)

    def started(self, environment: str, questions: Mapping[str, int]) -> None:
        super().started(environment, questions)
        number = sum(questions.values())
        self._tasks[environment] = self._bars.add_task(environment, total=number)
        self._total += number
        if self._whole is not None:
            self._bars.update(self._whole, total=self._total)

    def advanced(self, environment: str, implementation: str, seconds: float) -> None:
        super().advanced(environment, implementation, seconds)
        self._bars.advance(self._tasks[environment])
        if self._whole is not None:
            self._bars.advance(self._whole)


class _Lines(_Watched):
    """A line for each environment, at its start and after each quarter."""

    def __init__(self, console: Console, telling: ToldFailures, estimate: Estimate) -> None:
        super().__init__(console, telling, estimate)
        self._total: dict[str, int] = {}
        self._done: dict[str, int] = {}

    def started(self, environment: str, questions: Mapping[str, int]) -> None:
        super().started(environment, questions)
        self._total[environment], self._done[environment] = sum(questions.values()), 0
        say(self.console, f"{environment}: {self._total[environment]} questions")

    def advanced(self, environment: str, implementation: str, seconds: float) -> None:
        super().advanced(environment, implementation, seconds)
        self._done[environment] += 1
        done, total = self._done[environment], self._total[environment]
        if done * 4 // total > (done - 1) * 4 // total:
            left = estimating.words(self.estimate.left())
            say(self.console, f"{environment}: {done} of {total}{f'; {left}' if left else ''}")


@contextlib.contextmanager
def watching(costs: Costs | None = None, explained: Explained | None = None, *, quiet: bool) -> Generator[Progress]:
    """Yield the progress that a run reports to. costs: what an earlier run measured. explained: see `ToldFailures`."""
    if quiet:
        yield Progress()
        return
    console, estimate = terminal(stderr=True), Estimate(costs)
    telling = ToldFailures(divergences.read(), explained)
    if not console.is_terminal:
        yield _Lines(console, telling, estimate)
        return
    bar = BarColumn(bar_width=max(8, min(40, console.width - 48)))
    columns = (TextColumn("{task.description:<12}", markup=False), bar, MofNCompleteColumn(), _Left(estimate))
    with Bars(*columns, console=console) as bars:
        yield _Bars(bars, telling, estimate)
