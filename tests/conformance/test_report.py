"""The HTML report: complete, self-contained, and deaf to what implementations shout."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from conformance.report import render, write


class _Tags(HTMLParser):
    """Collects elements and checks that they nest."""

    void = frozenset(["meta", "link", "br", "img", "hr", "input"])

    def __init__(self):
        super().__init__()
        self.stack, self.seen, self.attributes = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += attrs
        if tag not in self.void:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag


def parsed(html):
    """Return the elements of a page whose tags nest."""
    tags = _Tags()
    tags.feed(html)
    assert tags.stack == []
    return tags


def test_report_lists_every_implementation_with_a_rho(run, tmp_path):
    """The table has a row for each, the verdict in words, and the path is returned."""
    found = run("numpy.*", cases=12)
    html = write(found, tmp_path / "out" / "report.html").read_text()
    for name in (record.id for record in found.implementations):
        row = re.search(rf'<tr><th scope="row">{re.escape(name)}</th>.*?</tr>', html, re.DOTALL)
        assert row
        assert re.search(r"<td>0\.\d+ ✓</td>", row[0])
    assert (
        f"<strong>{len(found.implementations)} of {len(found.implementations)}\nimplementations conform</strong>"
        in html
    )


def test_report_needs_no_network_and_no_script(run):
    """Nothing is fetched: no script, no link, no image; a strict policy says so to the browser."""
    tags = parsed(render(run("numpy.*", cases=6)))
    assert not {"script", "link", "img", "iframe", "object"} & set(tags.seen)
    assert not [value for name, value in tags.attributes if name in ("src", "srcset", "action")]
    assert all(value.startswith("#") for name, value in tags.attributes if name == "href")
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in tags.attributes


def test_hostile_messages_appear_as_text(run, adapter):
    """A message with markup is shown, not run."""
    html = render(run(adapter("faulty:Raise"), cases=14))
    assert "<script>" not in html
    assert "&lt;script&gt;alert(&#39;no&#39;)&lt;/script&gt;" in html
    parsed(html)


def test_failures_are_named_with_a_replay_command(run, adapter):
    """Each kind of failure says implementation, output, case, expected and got, and how to ask again."""
    found = run(adapter("wrong:MomentumSwapped"), cases=12)
    html = render(found)
    worst = max((r for r in found.results if r.output == "moving_mean"), key=lambda r: float(r.rho or 0))
    assert f"<code>{worst.case}</code>" in html
    assert "bnconf replay cases/" in html
    assert "moving_mean" in html


def test_nothing_compared_is_not_called_a_departure(run):
    """An implementation that supports none of the cases neither conforms nor departs."""
    found = run("torch.nn.BatchNorm3d", "numpy.two_pass", cases=1)
    found.results = [r for r in found.results if r.verdict == "UNSUPPORTED"]
    html = render(found)
    assert "departs" not in html
    assert "nothing compared" in html


def test_incomplete_runs_say_so(run, tmp_path):
    """An environment that did not start is in the headline and in the table."""
    found = run("numpy.*", cases=6, interpreters={"numpy": str(tmp_path / "none")})
    html = render(found)
    assert "<strong>Incomplete.</strong>" in html
    assert html.count("not judged") == len(found.implementations) > 0
