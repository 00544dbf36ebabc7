"""How often is a value found, and how fast, in a DHT whose nodes come and go?

    python scripts/lab_churn.py --median-life 3600 --sessions exponential --hours 2 --out churn.csv

NODES full nodes on virtual time, 10 to 50 ms apart, each to leave without a word when its session
ends; half a minute later, on average, somebody new comes in its stead. Some of them put values:
immutable items, mutable items and announces, in equal numbers, and keep them as a node does by
itself (items by its own timetable, torrents every quarter of an hour). With --publishers stay they
never leave, which is the usual question: does the DHT keep what somebody wants kept? With
--publishers churn they come and go like all others; who leaves is succeeded by another one with a
new value, and only values whose publisher lives are looked up. Lookups come from nodes drawn from
all that have found their way in, publishers excepted, and are spread over the whole time at random;
those whose asker leaves in the middle do not count.

Rows of what=lookup: minute (since the churn began), kind (immutable, mutable, announce), age
(minutes since the value was first put), found, asked (nodes asked), dead_share (of these, who were
gone already), seconds (virtual). Rows of what=tables, every ten minutes over 50 nodes: minute,
living (nodes), good and others (contacts in a table that the node thinks good, and the rest),
dead_share (of all contacts: gone in truth), dead_good_share (of the good ones).
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import trio

from dht_torrent.lab import run
from dht_torrent.lab.net.network import FakeNetwork
from dht_torrent.lab.population.churn import LAWS, Churn, Sessions, duration, health
from dht_torrent.lab.population.dhtnet import DhtNet
from dht_torrent.lab.studies.study import Study, exit_code, parser, positive, quantile
from dht_torrent.lab.studies.values import KINDS, QueryTap, Value, announce_again, make, put

LATENCY = (0.01, 0.05)
"""Seconds one way."""
HOUR = 3600.0
SETTLING = 120.0
"""Seconds until the first lookup: by then the first values are there."""
PATIENCE = 180.0
"""Seconds the last lookups may take; two lookups of the node's `lookup_timeout` fit in."""
TABLES_EVERY = 600.0
TABLES = 50
LEAST = 10
"""Nodes: one who publishes, eight who store, one who looks."""


@dataclass(slots=True, eq=False)
class Publication:
    """A value in the care of a node."""

    value: Value
    publisher: int
    began: float
    ready: bool = False
    """Whether it has been put once."""


@dataclass(slots=True)
class World:
    """What the tasks of one run share."""

    args: argparse.Namespace
    study: Study
    rng: random.Random
    network: DhtNet
    churn: Churn
    wire: QueryTap
    nursery: trio.Nursery
    began: float
    publications: dict[int, list[Publication]] = field(default_factory=dict)
    """By publisher; living ones only."""
    asking: set[int] = field(default_factory=set)
    """Nodes with a lookup on its way: one each, so that it is clear whose question is whose."""

    def minute(self) -> float:
        return (trio.current_time() - self.began) / 60

    async def publish(self, publication: Publication) -> None:
        """Put a value, and keep it as long as its publisher lives."""
        value, publisher = publication.value, publication.publisher
        await put(self.network, publisher, value, keep=True)
        publication.ready = True
        await announce_again(self.network, publisher, value)

    def entrust(self, value: Value, publisher: int) -> None:
        publication = Publication(value, publisher, trio.current_time())
        self.publications.setdefault(publisher, []).append(publication)
        self.nursery.start_soon(self.publish, publication)

    def left(self, number: int) -> None:
        """A node is gone: somebody else goes on with a value of that kind."""
        settled = self.churn.settled()
        for publication in self.publications.pop(number, []):
            if settled:
                self.entrust(make(publication.value.kind, self.rng), self.rng.choice(settled))

    async def look_up(self) -> None:
        everything = [p for mine in self.publications.values() for p in mine if p.ready]
        busy = self.asking
        askers = [n for n in self.churn.settled() if n not in self.publications and n not in busy]
        if not everything or not askers:
            return
        publication, asker = self.rng.choice(everything), self.rng.choice(askers)
        value, dht = publication.value, self.network.nodes[asker]
        minute, began = self.minute(), trio.current_time()
        self.asking.add(asker)
        with self.wire.watch(dht, value.target) as asked:
            found = await value.find(dht)
        self.asking.discard(asker)
        if asker not in self.network.nodes:
            return  # it left in the middle
        self.study.row(
            what="lookup",
            minute=minute,
            kind=value.kind,
            age=(began - publication.began) / 60,
            found=found,
            asked=len(asked),
            dead_share=asked.dead_share,
            seconds=trio.current_time() - began,
        )

    async def watch_tables(self) -> None:
        while True:
            settled = self.churn.settled()
            some = self.rng.sample(settled, min(TABLES, len(settled)))
            state = health(self.network, [self.network.nodes[number] for number in some])
            self.study.row(
                what="tables",
                minute=self.minute(),
                living=len(self.network.nodes),
                good=state.good,
                others=state.others,
                dead_share=state.dead,
                dead_good_share=state.dead_good,
            )
            await trio.sleep(TABLES_EVERY)


async def simulate(rng: random.Random, args: argparse.Namespace, study: Study) -> None:
    """One run; its rows go to the study."""
    async with trio.open_nursery() as nursery:
        network = DhtNet(rng, nursery, FakeNetwork(rng, latency=LATENCY))
        await network.grow(args.nodes)
        count = min(args.publishing, max(1, args.nodes // 4))
        publishers = rng.sample(list(network.nodes), count)
        churn = Churn(
            network,
            Sessions.of(args.sessions, args.median_life),
            rng,
            stay=publishers if args.publishers == "stay" else (),
        )
        world = World(
            args, study, rng, network, churn, QueryTap(network.net), nursery, trio.current_time()
        )
        churn.on_leave = world.left
        await nursery.start(churn.run)
        for number in range(args.values):
            world.entrust(make(KINDS[number % len(KINDS)], rng), publishers[number % count])
        nursery.start_soon(world.watch_tables)
        await spread_lookups(world)
        study.figures["joins"] = churn.joins
        study.figures["leaves"] = churn.leaves
        carried = network.net.stats.datagrams / (args.nodes * args.hours * HOUR)
        study.figures["datagrams_per_node_second"] = carried
        nursery.cancel_scope.cancel()


async def spread_lookups(world: World) -> None:
    """All lookups, at random moments until the time is up."""
    args, rng = world.args, world.rng
    moments = sorted(rng.uniform(SETTLING, args.hours * HOUR) for _ in range(args.lookups))
    with world.study.progress("virtual seconds", int(args.hours * HOUR)) as done:
        async with trio.open_nursery() as nursery:
            for moment in moments:
                await trio.sleep_until(world.began + moment)
                nursery.start_soon(world.look_up)
                done(int(moment))
            nursery.cancel_scope.deadline = trio.current_time() + PATIENCE


def summarise(study: Study) -> None:
    lookups = [row for row in study.rows if row["what"] == "lookup"]
    for kind in (*KINDS, None):
        rows = [row for row in lookups if kind is None or row["kind"] == kind]
        name: str = kind or "all"
        study.figures[f"{name}_lookups"] = len(rows)
        found = sum(bool(row["found"]) for row in rows)
        study.figures[f"{name}_found"] = found / len(rows) if rows else math.nan
    for column in ("seconds", "asked", "dead_share"):
        values = [float(row[column] or 0) for row in lookups]
        study.figures[f"{column}_p50"] = quantile(values, 0.5)
        study.figures[f"{column}_p95"] = quantile(values, 0.95)
    tables = [row for row in study.rows if row["what"] == "tables"]
    for column in ("good", "others", "dead_share", "dead_good_share"):
        study.figures[f"tables_{column}"] = tables[-1][column]


def main(argv: Sequence[str] | None = None) -> None:
    flags = parser(__doc__ or "", nodes=300, lookups=3000)
    flags.add_argument(
        "--median-life", type=duration, default=3600.0, metavar="SECONDS", help="default 3600"
    )
    flags.add_argument("--sessions", choices=LAWS, default="exponential")
    flags.add_argument("--hours", type=duration, default=2.0, help="virtual ones; default 2")
    flags.add_argument("--publishers", choices=("stay", "churn"), default="stay")
    flags.add_argument("--publishing", type=positive, default=5, help="publishers; default 5")
    flags.add_argument("--values", type=positive, default=90, help="default 90")
    args = flags.parse_args(argv)
    if args.nodes < LEAST:
        flags.error(f"--nodes must be at least {LEAST}")
    study = Study(args)
    run.run(partial(simulate, args=args, study=study), seed=args.seed)
    summarise(study)
    study.report()


if __name__ == "__main__":
    sys.exit(exit_code(main))
