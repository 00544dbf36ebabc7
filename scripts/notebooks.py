"""Run the lab's studies and draw what they find: results, notebooks and figures in one go.

    python scripts/notebooks.py                          everything
    python scripts/notebooks.py --only lookup,scale      these results; the others stay as they are
    python scripts/notebooks.py --draw                   no studies, only the notebooks
    python scripts/notebooks.py --small --to DIR         a few nodes each: seconds, proves no more
                                                         than that all of it works

Each study's rows are condensed into results/NAME.csv; each notebook reads those, and is executed;
what it draws goes into figures/. All of that is below `notebooks`, or below DIR. Needs the extra
`lab` (pip install --editable '.[lab]'). Exits 1 if a study or a notebook fails.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    import nbclient
    import nbformat
    from jupyter_client.manager import AsyncKernelManager
    from nbclient.exceptions import CellExecutionError, DeadKernelError
except ModuleNotFoundError as missing:
    sys.exit(f"no {missing.name} here: pip install --editable '.[lab]'")

from dht_torrent.lab.studies.results import FOLDER, Row, condense, read, write
from dht_torrent.lab.studies.study import positive

SCRIPTS = Path(__file__).resolve().parent
NOTEBOOKS = SCRIPTS.parent / "notebooks"
PATIENCE = {"study": 3600, "cell": 120}
"""Seconds."""
FORMAT: Any = nbformat
"""Which has no type hints."""
OWN_FOLDERS = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")


@dataclass(frozen=True)
class Study:
    """A result, and the commands whose rows it holds, one behind the other."""

    result: str
    """The file is results/NAME.csv."""
    script: str
    by: str
    """What rows are grouped by, see `condense`; if by nothing, all are kept."""
    full: Sequence[str]
    small: Sequence[str]


STUDIES = [
    Study(
        "lookup",
        "lab_lookup.py",
        "n kind",
        full=[f"--nodes {nodes} --lookups 300" for nodes in (30, 100, 300, 1000)],
        small=["--nodes 12 --lookups 4"],
    ),
    Study(
        "scale",
        "lab_lookup.py",
        "n",
        full=["--scale --lookups 300"],
        small=["--scale 2000 --lookups 10"],
    ),
    Study(
        "faults",
        "lab_lookup.py",
        "n kind loss dead",
        full=[
            "--nodes 1000 --lookups 300",
            *(f"--nodes 1000 --lookups 300 --loss {share}" for share in (0.1, 0.2)),
            *(f"--nodes 1000 --lookups 300 --dead {share}" for share in (0.25, 0.5)),
        ],
        small=["--nodes 12 --lookups 4 --loss 0.1"],
    ),
    Study(
        "churn",
        "lab_churn.py",
        "what kind median_life minute/20",
        full=[f"--median-life {life} --nodes 300 --lookups 3000" for life in (12000, 3600, 900)],
        small=["--median-life 900 --nodes 12 --lookups 8 --hours 0.1 --values 3 --publishing 1"],
    ),
    Study(
        "durability",
        "lab_durability.py",
        "",
        full=["--median-life 900 3600 --keepers 0 1 4 --nodes 150 --lookups 15 --step 30"],
        small=["--median-life 900 --keepers 0 1 --nodes 10 --lookups 1 --hours 0.2 --step 10"],
    ),
    Study(
        "hostile",
        "lab_hostile.py",
        "kind hostile paths method",
        full=[
            "--kind colluding --hostile 0.1,0.2,0.3,0.4 --paths 1,4 --lookups 100",
            "--kind colluding --hostile 0.1,0.2,0.3,0.4 --paths 8 --lookups 100",
            *(
                f"--kind {kind} --hostile 0.2 --lookups 100"
                for kind in ("blackhole", "liar", "late")
            ),
        ],
        small=[
            "--kind colluding --hostile 0.2 --paths 1,4 --nodes 50 --lookups 2",
            "--kind liar --hostile 0.2 --nodes 50 --lookups 2",
        ],
    ),
    Study(
        "eclipse",
        "lab_hostile.py",
        "size early method near",
        full=["--kind eclipse --eclipse 8,16,24 --keys 25"],
        small=["--kind eclipse --eclipse 8 --keys 1 --nodes 40 --lookups 2"],
    ),
    Study(
        "search_size",
        "lab_search.py",
        "n phase",
        full=[
            f"--count {titles} --publishers 50 --queries 500 --cold --warm"
            for titles in (100, 250, 500, 1000)
        ],
        small=["--count 20 --publishers 4 --queries 10 --cold --warm"],
    ),
    Study(
        "search_failures",
        "lab_search.py",
        "kill vandal phase",
        full=[
            f"--count 300 --publishers 30 --queries 300 --{what} {share}"
            for what, shares in (("kill", (0.3, 0.5, 0.7, 0.9)), ("vandal", (0.05, 0.1, 0.2, 0.4)))
            for share in shares
        ],
        small=[
            "--count 20 --publishers 4 --queries 10 --kill 0.5",
            "--count 20 --publishers 4 --queries 10 --vandal 0.2",
        ],
    ),
    Study(
        "similar",
        "lab_similar.py",
        "",
        full=["--entries 10000 --pairs 200"],
        small=["--entries 60 --pairs 12 --holders 50"],
    ),
    Study(
        "follow",
        "lab_follow.py",
        "",
        full=["--nodes 100 --followers 30 --versions 4"],
        small=["--nodes 12 --followers 3 --versions 4 --gap 30"],
    ),
    Study(
        "swarm_size",
        "lab_swarm.py",
        "variant leeches run gives",
        full=["--variants server --nodes 32", "--variants swarm --nodes 32"],
        small=["--variants server swarm --nodes 4 --size 64KiB"],
    ),
    Study(
        "swarm_rules",
        "lab_swarm.py",
        "variant leeches run gives",
        full=[
            "--variants rarest random in_order --nodes 16 --size 2MiB --runs 3",
            "--variants tit_for_tat random_unchoke --nodes 16 --size 2MiB --runs 3",
            "--variants endgame no_endgame --nodes 4 --size 2MiB --runs 3",
        ],
        small=[
            "--variants rarest in_order tit_for_tat random_unchoke endgame --nodes 4 --size 64KiB"
        ],
    ),
    Study(
        "swarm",
        "swarm.py",
        "",
        full=["--nodes 50 --size 64MiB --kill 0.3 --free-riders 0.2 --poisoners 2"],
        small=["--nodes 3 --size 256KiB"],
    ),
]


def run(study: Study, arguments: str) -> list[Row]:
    """What it found, condensed. Raises SystemExit if it fails."""
    began = time.monotonic()
    typed = f"python scripts/{study.script} {arguments}"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.csv"
        words = [sys.executable, str(SCRIPTS / study.script), *arguments.split()]
        done = subprocess.run(
            [*words, "--out", str(out)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE["study"],
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{done.stderr}{typed}: exit code {done.returncode}")
        rows = read(out)
    print(f"{typed}  # {len(rows)} rows, {time.monotonic() - began:.0f} s", file=sys.stderr)
    condensed = condense(rows, study.by.split()) if study.by else rows
    return [{**row, "command": typed} for row in condensed]


def run_all(studies: Sequence[Study], folder: Path, *, small: bool, jobs: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(jobs) as pool:
        futures = {
            study.result: [
                pool.submit(run, study, arguments)
                for arguments in (study.small if small else study.full)
            ]
            for study in studies
        }
        try:
            for result, parts in futures.items():
                write(folder / f"{result}.csv", [row for part in parts for row in part.result()])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def draw(notebook: Path, to: Path) -> None:
    """Execute it on the results in `to`; keep it there, with what it showed."""
    began = time.monotonic()
    book = FORMAT.read(notebook, as_version=4)
    about = book.metadata.copy()
    # Nobody's settings, and no file left behind. A short path, as Unix sockets are made in it.
    with tempfile.TemporaryDirectory(prefix="nb") as home:
        kernel = AsyncKernelManager(
            kernel_name="python3", transport="ipc", connection_file=f"{home}/kernel"
        )
        client = nbclient.NotebookClient(
            book,
            km=kernel,
            timeout=PATIENCE["cell"],
            record_timing=False,  # which differs each time, as do the pieces in which text arrives
            coalesce_streams=True,
            resources={"metadata": {"path": str(notebook.parent)}},
        )
        folders = dict.fromkeys(OWN_FOLDERS, home)
        try:
            client.execute(
                cleanup_kc=True,
                env={**os.environ, **folders, FOLDER: str(to.resolve() / "results")},
                stderr=subprocess.DEVNULL,  # the kernel's own; what a cell says comes by message
            )
        except CellExecutionError as error:
            raise SystemExit(f"{notebook.name}: {error}") from None
        except (DeadKernelError, AssertionError):
            # Also what Ctrl-C looks like: nbclient ends the kernel by itself, and then misses it.
            raise SystemExit(f"{notebook.name}: its kernel has ended") from None
    book.metadata = about  # and not which Python it was
    FORMAT.write(book, to / notebook.name)
    print(f"{notebook.name}: {time.monotonic() - began:.1f} s", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [study.result for study in STUDIES]
    flags.add_argument("--only", metavar="NAME,...", help=f"of {', '.join(names)}")
    flags.add_argument("--draw", action="store_true", help="no studies")
    flags.add_argument("--small", action="store_true", help="a few nodes each")
    flags.add_argument("--jobs", type=positive, default=1, help="studies at a time (1)")
    flags.add_argument("--to", type=Path, default=NOTEBOOKS, metavar="DIR")
    args = flags.parse_args(argv)
    only = args.only.split(",") if args.only else names
    if unknown := sorted(set(only) - set(names)):
        flags.error(f"--only: no such result: {', '.join(unknown)}")
    if args.small and args.to.resolve() == NOTEBOOKS:
        flags.error("--small: say where to with --to")
    args.to.mkdir(parents=True, exist_ok=True)
    try:
        if not args.draw:
            studies = [study for study in STUDIES if study.result in only]
            run_all(studies, args.to / "results", small=args.small, jobs=args.jobs)
        for notebook in sorted(NOTEBOOKS.glob("*.ipynb")):
            draw(notebook, args.to)
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
