"""`bnconf tolerance`: which rtol and atol a test may use for two implementations."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from typing import Any

import click
import msgspec

from conformance.cli.options import chosen, where_they_run
from conformance.model.errors import InvalidInput
from conformance.model.outputs import NAMES
from conformance.runs import asking
from conformance.workbench.pairs import Tolerance
from conformance.workbench.tolerances import PairMember, Setting, tolerances

_DTYPES = ("float16", "bfloat16", "float32", "float64")


class _Shape(click.ParamType[tuple[int, ...]]):
    name = "shape"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the sizes that 64,32,8,8 names."""
        sizes = str(value).replace("x", ",").split(",")
        if not all(size.strip().isdigit() and int(size) for size in sizes) or len(sizes) < 2:
            self.fail(f"{value!r} is no shape of at least two sizes from 1 on; give one such as 64,32,8,8", param, ctx)
        return tuple(map(int, sizes))


class _Answer(msgspec.Struct, frozen=True):
    """What `--json` prints."""

    first: str
    second: str
    setting: Setting
    draws: int
    fresh: int
    outputs: list[Tolerance]


@click.command("tolerance")
@click.argument("first")
@click.argument("second")
@click.option("--shape", type=_Shape(), default="64,32,8,8", show_default=True, help="Of the input.")
@click.option("--axis", type=int, default=1, show_default=True, help="Which is kept: one channel for each place on it.")
@click.option("--dtype", type=click.Choice(_DTYPES), default="float32", show_default=True, help="Of the input.")
@click.option(
    "--parameters",
    type=click.Choice(_DTYPES),
    help="Of gamma, beta and the state.  [default: float32, or float64 with float64]",
)
@click.option("--mean", type=float, default=0.0, show_default=True, help="Of the data, in units of σ.")
@click.option("--epsilon", type=click.FloatRange(min=0), default=1e-5, show_default=True)
@click.option(
    "--momentum",
    type=click.FloatRange(0, 1),
    default=0.9,
    show_default=True,
    help="The fraction kept (torch's 0.1 is 0.9).",
)
@click.option("--inference", is_flag=True, help="Normalize by the moving statistics.")
@click.option(
    "--output",
    "outputs",
    type=click.Choice(NAMES),
    multiple=True,
    metavar="NAME",
    help="y, dx, … Repeatable.  [default: all that both return]",
)
@click.option(
    "--draws", type=click.IntRange(min=1), default=8, show_default=True, help="Batches that the pair is fitted to."
)
@click.option(
    "--fresh",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Batches more, in which alarms are counted.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Decides the batches.")
@click.option("--json", "as_json", is_flag=True, help="One object: first, second, setting, draws, fresh, outputs.")
@where_they_run
def command(first: str, second: str, draws: int, fresh: int, seed: int, as_json: bool, **given: Any) -> None:
    """Say which rtol and atol `allclose(FIRST, SECOND)` may be given, and what it would miss.

    Both are ids of `bnconf implementations`, or what -i of `bnconf run` takes. numpy.two_pass, numpy.fast and the like
    stand for classes of computing. The data is normally distributed with σ = 1.

    For each output: what is allowed each of the two, derived from the data; what each lost; the pair that no two right
    answers exceed; the faults that it lets pass. Where no pair is right, why.
    """
    setting = _setting(given)
    with contextlib.ExitStack() as both:
        sides = [both.enter_context(_asked(name, given)) for name in (first, second)]
        tried = range(seed + draws, seed + draws + fresh)
        found = tolerances(setting, (sides[0], sides[1]), range(seed, seed + draws), given["outputs"], tried)
    answer = _Answer(sides[0].statement.id, sides[1].statement.id, setting, draws, fresh, found)
    click.echo(msgspec.json.encode(answer).decode()) if as_json else _print(answer)


def _setting(given: dict[str, Any]) -> Setting:
    parameters = given["parameters"] or ("float64" if given["dtype"] == "float64" else "float32")
    names = ("shape", "axis", "dtype", "epsilon", "momentum", "mean")
    return Setting(parameters=parameters, training=not given["inference"], **{name: given[name] for name in names})


@contextlib.contextmanager
def _asked(name: str, given: dict[str, Any]) -> Generator[PairMember]:
    """Yield one of the two while its worker runs."""
    names = ("device", "interpreters", "in_process", "cache", "timeout", "memory")
    who = chosen(patterns=(name,), **{one: given[one] for one in names})
    if len(who.entries) != 1:
        several = ", ".join(entry.id for entry in who.entries[:4])
        raise InvalidInput(f"{name} names {len(who.entries)} implementations ({several}, …); name one")
    with contextlib.closing(asking.each(who)) as found:
        entry, _, ask = next(found)
        yield PairMember(entry.statement, ask)


def _print(answer: _Answer) -> None:
    click.echo(f"allclose({answer.first}, {answer.second}): {answer.setting}; {answer.draws} batches")
    rows = [("output", "rtol", "atol", "allowed: first", "second", "lost: first", "second"), *map(_row, answer.outputs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip())
    for one in answer.outputs:
        for line in _said(one, answer):
            click.echo(f"{one.output}: {line}")


def _row(one: Tolerance) -> tuple[str, ...]:
    pair = ("–", "–") if one.rtol is None or one.atol is None else (f"{one.rtol:g}", f"{one.atol:g}")
    return one.output, *pair, *(_figure(value) for value in (*one.allowed, *one.lost))


def _figure(value: float) -> str:
    return "no bound" if value < 0 else f"{value:.2g}"


def _said(one: Tolerance, answer: _Answer) -> Iterator[str]:
    if one.why:
        yield f"no pair is right: {one.why}; assert_conforms holds each element to its own bound"
        return
    yield f"the pair allows a typical element {one.slack:.2g} times what its bounds do"
    for faults, seen in ((one.misses, "bounds of each element see it"), (one.unseen, "nor do bounds see it")):
        if faults:
            yield f"the pair misses what is as if {'; as if '.join(faults)} ({seen})"
    if one.alarms is not None and answer.fresh:
        yield f"{one.alarms} alarms in {answer.fresh} batches more"
