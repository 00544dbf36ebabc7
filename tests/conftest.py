"""For all tests: `tests.helpers` can be imported, and a busy machine fails no property."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import settings

ROOT = str(Path(__file__).parent.parent)
if ROOT not in sys.path:  # --import-mode=importlib leaves it out
    sys.path.insert(0, ROOT)

# An example's time says how busy the machine is; tests that bound time do it themselves.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")
