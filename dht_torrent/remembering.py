"""What a function of one argument gave before. The rule: so many answers and no more; for each
one beyond, that which has been remembered for longest is forgotten.

`functools.lru_cache` keeps them in order of use, for which each look writes to four others: with
thousands of hosts none of those is in the processor's caches. A look here is one in a dictionary.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


def remembering(most: int) -> Callable[[Callable[[Asked], Answer]], Callable[[Asked], Answer]]:
    """A decorator: `most` answers are remembered. What was raised is not."""

    def decorate(work_out: Callable[[Asked], Answer]) -> Callable[[Asked], Answer]:
        return _Answers(work_out, most).__getitem__

    return decorate


class _Answers(OrderedDict[Asked, Answer]):
    def __init__(self, work_out: Callable[[Asked], Answer], most: int) -> None:
        super().__init__()
        self._work_out = work_out
        self._most = most

    def __missing__(self, asked: Asked) -> Answer:
        answer = self._work_out(asked)
        if len(self) >= self._most:
            self.popitem(last=False)
        self[asked] = answer
        return answer
