"""Modules of this folder import one another by their names, as they do where one of them is the command."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent)]
