"""For all tests: `tests.helpers` can be imported, a busy machine fails no property, and the first
fault of ours ends the run."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import settings

ROOT = str(Path(__file__).parent.parent)
if ROOT not in sys.path:  # --import-mode=importlib leaves it out
    sys.path.insert(0, ROOT)

from dht_torrent.config import Config  # noqa: E402

# A test that makes a Config of its own must not pass over a bug because it forgot to say so.
defaults = Config.__init__.__kwdefaults__
assert defaults is not None
defaults["fail_fast"] = True

# An example's time says how busy the machine is; tests that bound time do it themselves. Where CI
# is set Hypothesis would try the same examples in every run: it looks for new ones there as well,
# and a failure prints what repeats it (`@reproduce_failure`).
settings.register_profile("tests", deadline=None, derandomize=False, print_blob=True)
settings.load_profile("tests")
