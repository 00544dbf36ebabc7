"""How often a property is tried. With FEW_EXAMPLES set it is a few times only: for a second run of
all tests, that asks what another Python does.
"""

from __future__ import annotations

import os
from typing import Final

FEW: Final = 15
IS_BRIEF: Final = bool(os.environ.get("FEW_EXAMPLES"))


def examples(number: int) -> int:
    """`number`, or FEW if that is less and a few will do: of `settings(max_examples=...)`."""
    return min(number, FEW) if IS_BRIEF else number
