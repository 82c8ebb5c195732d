"""`bnconf ask`: what people ask about batch normalization, with a number and a case that anyone can ask again."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from conformance.model.errors import InvalidInput
from conformance.runs import commands
from conformance.studies import faq

WIDTH = 110
SOME = 6


@click.command("ask")
@click.argument("words", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Answer every question.")
@click.option("--json", "as_json", is_flag=True, help="A list of objects: id, asks, answer, numbers, means, witness.")
def command(words: tuple[str, ...], every: bool, as_json: bool) -> None:
    """Answer a question: WORDS is its id, or some words of it. Without any, list the questions.

    Numbers are computed from the witness by the reference; who means what is read from the statements, each field of
    which `bnconf audit` proves. The witness can be asked of any implementation: bnconf replay FILE -i ID.
    """
    if words and every:
        raise InvalidInput("--all answers every question; give words, or --all")
    if not (words or every):
        _list(as_json)
        return
    found = [faq.answered(q) for q in (faq.read() if every else faq.matching(words))]
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    else:
        click.echo("\n\n".join("\n".join(_lines(answer)) for answer in found))


def _list(as_json: bool) -> None:
    asked = faq.read()
    if as_json:
        click.echo(msgspec.json.encode([{"id": q.id, "asks": q.asks} for q in asked]).decode())
        return
    width = max(len(question.id) for question in asked)
    for question in asked:
        click.echo(f"{question.id:{width}}  {question.asks}")
    click.echo(f"\nOne of them, by its id or by words of it: {commands.line('ask', asked[0].id)}")
    click.echo(f"All of them: {commands.line('ask', '--all')}")


def _lines(answer: faq.FaqAnswer) -> Iterator[str]:
    yield f"{answer.asks}\n"
    yield textwrap.fill(answer.answer, WIDTH)
    if answer.numbers:
        yield ""
    for number in answer.numbers:
        yield textwrap.fill(f"{number.says}: {number.value}", WIDTH, initial_indent="  ", subsequent_indent="    ")
    if answer.means:
        yield "\nWho means what, by their statements:"
    for value, ids in answer.means.items():
        names = ", ".join(ids[:SOME]) + (f" and {len(ids) - SOME} more" if len(ids) > SOME else "")
        yield textwrap.fill(f"{value}: {names}", WIDTH, initial_indent="  ", subsequent_indent="    ")
    asks = commands.line("replay", commands.file(Path(answer.witness)), "-i", "numpy.two_pass")
    yield f"\nWitness, asked of an implementation that -i names: {asks}"
