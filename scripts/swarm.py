"""See a swarm at work: real nodes on loopback, in one process, with a seed and whatever goes wrong.

    python scripts/swarm.py --nodes 50 --size 64MiB
    python scripts/swarm.py --nodes 50 --size 64MiB --kill 0.3 --free-riders 0.2 --poisoners 2

Leeches are given a bare magnet link: they find the seeds, and each other, in a DHT of these very
nodes. --kill makes that share of the leeches vanish before they are complete; --free-riders makes
that share take and never give; --poisoners claim to be seeds and send blocks with a wrong bit.
Exits 1 unless every honest leech that lives has a perfect copy (all are compared), 2 if the flags
make no sense. Nothing is left on the disk, also after Ctrl-C; TMPDIR says where it is meanwhile.

The CSV has two kinds of rows. what=node: node (its number), kind, seconds (until it was complete;
empty if it never was), downloaded, uploaded, wasted (payload bytes), identical. what=second: second
(since the leeches began), complete (nodes), alive (nodes), connections, rate (payload bytes per
second, all together).
"""

from __future__ import annotations

import random
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import trio
from rich.console import Console
from rich.live import Live
from rich.table import Table

from dht_torrent.errors import DhtTorrentError
from dht_torrent.lab.population.swarm import Cast, Kind, LabSwarm, Second
from dht_torrent.lab.studies.study import Study, parser, positive, quantile, seconds, share, size

MB = 1e6


def table(swarm: LabSwarm, moment: Second) -> Table:
    """The swarm by kinds of nodes."""
    shown = Table(
        title=f"{moment.seconds:.0f} s, {moment.connections} connections, "
        f"{moment.rate / MB:.1f} MB/s"
    )
    for name in ("", "nodes", "alive", "complete", "down MB", "up MB", "wasted MB"):
        shown.add_column(name, justify="right" if name else "left")
    for kind in Kind:
        members = swarm.of(kind)
        if members:
            counts = [sum(column) / MB for column in zip(*(m.counts for m in members), strict=True)]
            shown.add_row(
                kind,
                str(len(members)),
                str(sum(member.alive for member in members)),
                str(sum(member.seconds is not None for member in members)),
                *(f"{count:.1f}" for count in counts),
            )
    return shown


def line(swarm: LabSwarm, moment: Second) -> str:
    """The same for a log."""
    return (
        f"{moment.seconds:4.0f} s  {moment.complete} of {swarm.cast.leeches} complete  "
        f"{moment.alive} alive  {moment.connections} connections  {moment.rate / MB:.1f} MB/s"
    )


async def watch(swarm: LabSwarm, patience: float) -> bool:
    """Run it, and show it on stderr. False when it was interrupted.
    Raises DhtTorrentError."""
    console = Console(stderr=True)
    fault: DhtTorrentError | None = None
    interrupted = False
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            async def listen() -> None:
                nonlocal interrupted
                async for _ in signals:
                    interrupted = True
                    nursery.cancel_scope.cancel()

            nursery.start_soon(listen)
            try:
                if console.is_terminal:
                    with Live(console=console, auto_refresh=False) as live:
                        await swarm.run(
                            patience, lambda now: live.update(table(swarm, now), refresh=True)
                        )
                else:
                    await swarm.run(
                        patience, lambda now: console.print(line(swarm, now), highlight=False)
                    )
            except DhtTorrentError as error:
                fault = error  # raised below, or the nursery would wrap it in a group
            nursery.cancel_scope.cancel()
    if fault is not None:
        raise fault
    return not interrupted


def note(study: Study, swarm: LabSwarm) -> None:
    """The rows and the figures."""
    for member in swarm.members:
        downloaded, uploaded, wasted = member.counts
        study.row(
            what="node",
            node=member.number,
            kind=str(member.kind),
            seconds=member.seconds,
            downloaded=downloaded,
            uploaded=uploaded,
            wasted=wasted,
            identical=member.identical,
        )
    for now in swarm.history:
        study.row(
            what="second",
            second=now.seconds,
            complete=now.complete,
            alive=now.alive,
            connections=now.connections,
            rate=now.rate,
        )
    honest = swarm.of(Kind.LEECH)
    times = [member.seconds for member in honest if member.seconds is not None]
    received = sum(member.counts[0] for member in honest)
    study.figures |= {
        "honest_leeches": len(honest),
        "perfect_copies": sum(member.identical is True for member in honest),
        "first_seconds": min(times, default=None),
        "median_seconds": quantile(times, 0.5),
        "last_seconds": max(times, default=None),
        "wasted_share": sum(member.counts[2] for member in honest) / max(received, 1),
        "seed_copies": sum(m.counts[1] for m in swarm.of(Kind.SEED)) / swarm.cast.size,
        "bans": swarm.bans,
        "unjust_bans": swarm.unjust_bans,
    }
    riders = swarm.of(Kind.FREE_RIDER)
    study.figures["free_riders"] = len(riders)
    study.figures["free_riders_complete"] = sum(m.seconds is not None for m in riders)
    study.figures["vanished"] = sum(member.vanished for member in swarm.members)


def main(argv: Sequence[str] | None = None) -> int:
    flags = parser(__doc__ or "", nodes=50, seed="for what is shared, and who does what")
    flags.add_argument("--size", type=size, default=64 << 20, help="default 64MiB")
    flags.add_argument("--seeds", type=positive, default=1, help="default 1")
    flags.add_argument("--kill", type=share, default=0.0, metavar="SHARE", help="default 0")
    flags.add_argument("--free-riders", type=share, default=0.0, metavar="SHARE", help="default 0")
    flags.add_argument("--poisoners", type=int, default=0, metavar="COUNT", help="default 0")
    flags.add_argument("--up", type=size, metavar="RATE", help="bytes per second a node may send")
    flags.add_argument("--patience", type=seconds, default=600.0, help="default 600 seconds")
    args = flags.parse_args(argv)
    study = Study(args)
    cast = Cast(
        nodes=args.nodes,
        size=args.size,
        seeds=args.seeds,
        poisoners=args.poisoners,
        kill=args.kill,
        free_riders=args.free_riders,
        up=args.up,
    )
    try:
        with tempfile.TemporaryDirectory(prefix="swarm-") as folder:
            swarm = LabSwarm(cast, Path(folder), random.Random(args.seed))
            if not trio.run(watch, swarm, args.patience):
                sys.stderr.write("stopped; nothing is left behind\n")
                return 130
    except DhtTorrentError as error:
        flags.error(str(error))
    note(study, swarm)
    study.report()
    for member in swarm.wrong:
        sys.stderr.write(f"node {member.number}: {member.trouble}\n")
    return 1 if swarm.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
