"""What an object owns must not own the object in turn: both would stay, with all they hold, until
the cyclic garbage collector finds them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


def weakly(method: Callable[_P, _T]) -> Callable[_P, _T]:
    """`method`, without keeping its object alive. Not to be called when that is gone."""
    ref = weakref.WeakMethod(method)

    def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        alive = ref()
        assert alive is not None
        return alive(*args, **kwargs)

    return call
