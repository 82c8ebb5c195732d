"""The report as a PDF, printed by a Chromium that is there already."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from conformance.model.errors import Incomplete, InvalidInput

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_SECONDS = 300


def browser() -> str:
    """Return the browser's path; raise `Incomplete` where there is none."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found:
        raise Incomplete(
            f"--pdf: no Chromium on PATH (looked for {', '.join(BROWSERS)}); install one, or print the page"
        )
    return found


def write(page: Path, path: Path) -> Path:
    """Print a page and return the PDF's path."""
    command = [browser(), "--headless", "--disable-gpu", "--no-pdf-header-footer", f"--print-to-pdf={path.resolve()}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--no-sandbox")  # it refuses to run as root otherwise, and the page is our own
    path.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        try:
            done = subprocess.run(
                [*command, f"--user-data-dir={profile}", page.resolve().as_uri()],
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Incomplete(f"--pdf: Chromium did not end within {_SECONDS} s; print {page} by hand") from error
    if not path.exists():
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise InvalidInput(f"--pdf {path}: Chromium wrote nothing there ({said}); name a file that can be written")
    return path
