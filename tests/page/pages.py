"""A node's page as the tests have it: where it is, what it is told, and what it costs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dht_torrent.daemon.client import Client

if TYPE_CHECKING:
    from playwright.sync_api import CDPSession, Page, Route

PATIENCE = 20_000
"""Milliseconds that anything may take where much else runs."""
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}


@dataclass(frozen=True)
class Running:
    """A node with a page, and one that seeds."""

    link: str
    client: Client
    seed: Client
    magnet: str
    """Of what the other seeds, and where it is to be had."""
    folder: Path


Opens = Callable[..., "Page"]


def go(page: Page, where: str) -> None:
    """Waits for it: what was shown before has the same parts."""
    page.evaluate("where => { location.hash = where; }", where)
    page.wait_for_selector(f'main[data-shown="{where}"]')


def becomes(page: Page, read: str | Callable[[], object], value: object) -> None:
    """What the page, or somebody else, says is that, sooner or later. (Playwright's own
    `wait_for_function` asks a second time by `eval`, which our policy forbids.)"""

    def now() -> object:
        return page.evaluate(read) if isinstance(read, str) else read()

    for _ in range(PATIENCE // 100):
        if now() == value:
            return
        page.wait_for_timeout(100)
    assert now() == value


def tells(page: Page, rows: dict[str, Any], *, read_only: bool = False) -> None:
    """Let the page be told this, in place of what its node would tell."""
    events = [("hello", {"page": "x", "read_only": read_only}), ("all", {"rows": rows})]
    body = "".join(f"event: {kind}\ndata: {json.dumps(value)}\n\n" for kind, value in events)

    def answer(route: Route) -> None:
        route.fulfill(content_type="text/event-stream", body=f"retry: 600000\n{body}")

    page.context.route("**/events", answer)
    page.context.route("**/events/x", lambda route: route.fulfill(status=204))
    page.reload()


STREAM = """rows => {
  window.EventSource = class extends EventTarget {
    readyState = 1;
    constructor() {
      super();
      const tell = (type, value) => {
        this.dispatchEvent(new MessageEvent(type, {data: JSON.stringify(value)}));
      };
      setTimeout(() => {
        tell('hello', {page: 'x', read_only: false});
        tell('all', {rows});
      }, 20);
      window.tellAll = async rounds => {
        for (let round = 1; round <= rounds; round += 1) {
          const told = {};
          for (const id of Object.keys(rows)) {
            told[id] = {down: round, up: round};
            if (id) Object.assign(told[id], {progress: round / rounds, peers: round, eta: round});
          }
          tell('news', {rows: told, gone: []});
          await new Promise(requestAnimationFrame);
          await new Promise(requestAnimationFrame);
        }
      };
    }
    close() {}
  };
  window.EventSource.OPEN = 1;
  window.EventSource.CLOSED = 2;
}"""  # fmt: skip


def streams(page: Page, rows: dict[str, Any]) -> None:
    """Let the page be told this, and by `tellAll(rounds)` that all of it has changed, and again."""
    page.context.route("**/events/x", lambda route: route.fulfill(status=204))
    page.add_init_script(f"({STREAM})({json.dumps(rows)})")
    page.reload()


def row(number: int, **changes: Any) -> dict[str, Any]:
    """A torrent, as the node tells of it."""
    return {
        "name": f"Torrent {number:04}",
        "state": "downloading",
        "progress": number % 100 / 100,
        "size": 1 << 30,
        "downloaded": 0,
        "uploaded": 0,
        "down": 1000 * number,
        "up": 0,
        "peers": 3,
        "error": None,
        "why": None,
        "eta": 90,
        "limit_down": None,
        "limit_up": None,
        "warning": None,
        "labels": [],
        "ratio": 0.5,
        "published": False,
        "queue": number,
        "seeding": ["node", "node"],
        "folder": "/downloads",
        "added_at": 1_700_000_000 - number,
        **changes,
    }


def seconds_of(meter: CDPSession) -> float:
    """Of work that the page has cost so far."""
    metrics = meter.send("Performance.getMetrics")["metrics"]
    return float(next(one["value"] for one in metrics if one["name"] == "TaskDuration"))


NODE = {"version": "1", "down": 2048, "up": 0, "contacts": 3, "warnings": [], "reachable": True}
