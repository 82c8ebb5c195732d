"""The HTML report of a run: one file that needs no network and no server, and says the essential without its script.

`gather` reads what it is made of, `render` makes the page. Everything that comes from a run is escaped; the policy in
the page lets the browser run the page's own script and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from conformance.model.errors import InvalidInput
from conformance.report import history
from conformance.report.material import Material as Material
from conformance.report.material import gather as gather
from conformance.report.plots import shown
from conformance.report.view import view
from conformance.runs import summary

SCRIPTS = (
    "data.js",
    "query.js",
    "state.js",
    "filters.js",
    "results.js",
    "heat.js",
    "case.js",
    "share.js",
    "compare.js",
    "accuracy.js",
    "print.js",
    "page.js",
)
LARGE = 10_000_000
"""From how many bytes on a report is too large to be mailed."""

_FOLDER = resources.files("conformance.report") / "page"


def write(material: Material, path: Path, *, separate: bool = False) -> list[Path]:
    """Write the report and return its files: one, or with separate a page, its style and its script."""
    if not separate:
        return [save(path, render(material))]
    look, script = path.with_suffix(".css"), path.with_suffix(".js")
    page = render(material, look=look.name, script=script.name)
    return [save(path, page), save(look, style()), save(script, _script())]


def render(material: Material, *, look: str = "", script: str = "", reload: bool = False) -> str:
    """Return the page. look, script: files beside it; what is not named is in the page. reload: it asks the server."""
    own_style, own_script = style(), _script() + (_read("reload.js") if reload else "")
    policy = [
        "default-src 'none'",
        f"style-src {chr(39) + 'self' + chr(39) if look else _hash(own_style)}",
        f"script-src {chr(39) + 'self' + chr(39) if script else _hash(own_script)}",
        *(["connect-src 'self'"] if reload else []),
        "base-uri 'none'",
        "form-action 'none'",
    ]
    inline = {"own_style": Markup(own_style), "own_script": Markup(own_script)}  # noqa: S704 - files of ours
    return _template("report.html.j2").render(
        policy="; ".join(policy), style=look, script=script, **inline, **view(material)
    )


def index(reports: Path) -> Path:
    """Write the page over all runs kept in a folder, and return its path."""
    own_style = style()
    page = page_of(
        "index.html.j2",
        policy=f"default-src 'none'; style-src {_hash(own_style)}",
        own_style=Markup(own_style),  # noqa: S704 - a file of ours
        runs=history.runs(reports, read_all=True)[::-1],
    )
    return save(reports / "index.html", page)


def page_of(name: str, **values: Any) -> str:
    """Return a page made of one of our templates and these values."""
    return _template(name).render(**values)


def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(_read),
    )
    environment.filters["rho"] = summary.show
    environment.filters["shown"] = shown
    environment.filters["digits"] = digits
    return environment.get_template(name)


def digits(value: float | str, number: int) -> str:
    """Return a number with so many significant digits; text, such as `inf`, as it is.

    >>> digits(8.940704726574879e-06, 3), digits("inf", 3)
    ('8.94e-06', 'inf')
    """
    return value if isinstance(value, str) else f"{value:.{number}g}"


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def style(*names: str) -> str:
    """Return style sheets of ours, one after the other; without names, the report's."""
    return "".join(map(_read, names or ("report.css",)))


def _script() -> str:
    """Return the page's script: the files in one scope of their own."""
    return "(() => {\n'use strict';\n" + "\n".join(map(_read, SCRIPTS)) + "})();\n"


def _hash(text: str) -> str:
    """Return what a content security policy knows an inline element by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def save(path: Path, content: str) -> Path:
    """Write a file, and return its path; raise InvalidInput where it cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be written ({error.strerror}); name another") from error
    return path
