"""Modules of this folder import one another by name, as the adapter `ways.py` does."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
