"""Where on this disk clients may have their content: below the download directory, and below what
the user has named besides. Whoever steers a node from elsewhere has no business in other folders.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from dht_torrent.errors import InputError

KEYS: Final = ("share", "output", "path", "tls_ca", "tls_cert", "tls_key")
"""Of the control API's requests: each names a place, and `sources` names several."""


class Places:
    """The folders that clients may use, their roots."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = [Path(os.path.realpath(root)) for root in roots]

    def hold(self, text: str) -> bool:
        """Whether this path, wherever links on it lead, is one of the roots or below one. Raises
        InputError for what cannot be a path."""
        try:
            real = Path(os.path.realpath(text))
        except (OSError, ValueError, UnicodeError):
            raise InputError("this path cannot be used") from None
        return any(real.is_relative_to(root) for root in self._roots)

    def check(self, body: Mapping[str, object]) -> None:
        """Raises InputError if a request to the control API names a place elsewhere."""
        sources = body.get("sources")
        named = [body.get(key) for key in KEYS] + (sources if isinstance(sources, list) else [])
        for text in named:
            if isinstance(text, str) and not self.hold(text):
                raise InputError("not below a folder that clients may use (see --web-dir)")
