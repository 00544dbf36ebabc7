"""What do lookups find in a DHT where some of the nodes are hostile?

    scripts/lab_hostile.py --hostile 0.1,0.2,0.3 --paths 1,4 --out hostile.csv
    scripts/lab_hostile.py --kind eclipse --eclipse 8,16,24 --keys 50 --out eclipse.csv

A network of full nodes in memory, a share of which is hostile from the start. Honest nodes publish
items (BEP 44) and announce torrents, --lookups of each; others look for them.

  colluding  tell of each other only, deny every value, take what is put and forget it
  blackhole  answer pings, and nothing else
  liar       name dead addresses, wrong ids and accomplices; give false values and invented peers
  late       as colluding, but answer after the soft or the hard timeout
  reflector  name a victim's address instead of contacts: how much does it get?
  eclipse    the closest ids to a key are mined by the attacker: is that noticed, and is the value
             found all the same? Each key comes twice: the value was there before the attack
             (early), or came after. --lookups keys in the same network are left in peace.

Addresses are private, for which no rule of one contact per IP or /24 and no bond between id and
IP (BEP 42) holds: the harder case. With --public they do.

Columns: hostile (share of all nodes), paths; method (get: an item, get_peers: a peer), found, asked
(addresses), silent, hostile_asked and hostile_closest (share of the hostile among those asked, and
among the closest it ended with), eclipse_suspected (it suspected an eclipse), eclipsed (the k
closest that answered were hostile), seconds. For eclipse: size (adversaries around the key; 0:
none), early, and near (whether any of them was among the closest: eclipses reach some keys in
peace).
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TypeVar

from dht_torrent.lab.run import run
from dht_torrent.lab.studies.attacks import eclipse_figures, eclipses, mixed, mixed_figures
from dht_torrent.lab.studies.hostile import KINDS, MIN_HONEST, Scene, world
from dht_torrent.lab.studies.study import Cell, Study, exit_code, parser, positive, share

Number = TypeVar("Number", int, float)

MAX_SUBNETS = 1 << 16


def main(argv: Sequence[str] | None = None) -> None:
    args = _arguments(argv)
    study = Study(args)
    for hostile in args.hostile:
        for paths in args.paths:
            kind = "colluding" if args.kind == "eclipse" else args.kind
            scene = Scene(args.nodes, hostile, kind, paths, args.public, args.subnets)
            measure = _eclipse if args.kind == "eclipse" else _mixed
            figures = measure(study, args, scene)
            parts = [f"h{hostile:g}"] * (len(args.hostile) > 1)
            parts += [f"p{paths}"] * (len(args.paths) > 1)
            study.figures |= {"_".join([name, *parts]): cell for name, cell in figures.items()}
    study.report()


def _mixed(study: Study, args: argparse.Namespace, scene: Scene) -> dict[str, Cell]:
    async def experiment(rng: random.Random) -> dict[str, Cell]:
        total = scene.nodes + args.lookups
        with study.progress(scene.kind, total) as done:
            async with world(rng, scene, done) as there:
                there.forget_traffic()
                looks = await mixed(there, args.lookups, lambda count: done(scene.nodes + count))
                for look in looks:
                    study.row(hostile=scene.hostile, paths=scene.paths, **asdict(look))
                return mixed_figures(looks) | there.reflected(len(looks))

    return run(experiment, seed=study.seed)


def _eclipse(study: Study, args: argparse.Namespace, scene: Scene) -> dict[str, Cell]:
    async def experiment(rng: random.Random) -> dict[str, Cell]:
        total = scene.nodes + 2 * len(args.eclipse) * args.keys + args.lookups
        with study.progress("eclipse", total) as done:
            async with world(rng, scene, done) as there:
                found = await eclipses(
                    there,
                    args.eclipse,
                    args.keys,
                    args.lookups,
                    lambda count: done(scene.nodes + count),
                )
                for eclipse in found:
                    study.row(
                        hostile=scene.hostile,
                        paths=scene.paths,
                        size=eclipse.size,
                        early=eclipse.early,
                        near=eclipse.look.hostile_closest > 0,
                        **asdict(eclipse.look),
                    )
                return eclipse_figures(found)

    return run(experiment, seed=study.seed)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__, nodes=1000, lookups=250)
    made.add_argument("--kind", choices=[*KINDS, "eclipse"], default="colluding")
    made.add_argument(
        "--hostile",
        type=_several(share),
        metavar="SHARE,...",
        help="of all nodes (default 0.2; with --kind eclipse 0: only those around keys)",
    )
    made.add_argument(
        "--paths", type=_several(positive), default=[8], metavar="N,...", help="disjoint (8)"
    )
    made.add_argument(
        "--eclipse",
        type=_several(positive),
        default=[8, 16, 24],
        metavar="N,...",
        help="adversaries around an eclipsed key (8,16,24)",
    )
    made.add_argument(
        "--keys", type=positive, default=50, help="eclipsed by each number in each order (50)"
    )
    made.add_argument("--public", action="store_true", help="public addresses")
    made.add_argument(
        "--subnets", type=positive, default=32, help="/24s of the adversaries, if public (32)"
    )
    args = made.parse_args(argv)
    if args.hostile is None:
        args.hostile = [0.0] if args.kind == "eclipse" else [0.2]
    if args.nodes * (1 - max(args.hostile)) < MIN_HONEST:
        made.error(f"fewer than {MIN_HONEST} honest nodes would be left")
    if args.subnets > MAX_SUBNETS:
        made.error(f"--subnets: at most {MAX_SUBNETS}")
    return args


def _several(one: Callable[[str], Number]) -> Callable[[str], list[Number]]:
    """For argparse: values separated by commas."""

    def several(text: str) -> list[Number]:
        return [one(part) for part in text.split(",")]

    several.__name__ = "list"  # what argparse calls it when it complains
    return several


if __name__ == "__main__":
    sys.exit(exit_code(main))
