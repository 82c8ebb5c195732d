"""The HTML report of a run."""
from pathlib import Path
from conformance.results import Run

def write(run: Run, path: Path) -> Path:
    return path
