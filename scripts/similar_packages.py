"""Is the version before found among the first three that are similar? With real bytes.

    python scripts/similar_packages.py --cache ~/packages
    python scripts/similar_packages.py --cache ~/packages --packed --json

By hand, and never a test: it fetches eight versions each of twenty source packages from PyPI, some
150 MB, into a folder, and uses what is there already. Each version is sketched, unpacked (a folder,
as one shares it) and packed (the .tar.gz), and asks for its neighbours among all of the same kind,
by what the index would give it: entries whose keys in the trees of content and of names begin as
its own, as deep as the trees would be with `--entries` entries, and ranked as a search ranks them.

Rows: a version each: kind, package, version, before, place (of the version before among those
found, from 1; nothing: it was not), word (what it is called), content and title (estimates),
candidates.

Figures, for `unpacked` and `packed`: first_three (the share of versions whose version before is
among the first three), found (found at all), near (called a near duplicate), wrong (called a near
duplicate, and another package), content_mean (of the estimates).
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import tarfile
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dht_torrent.engine.search.sketching import traits_of
from dht_torrent.lab.studies.study import Study, exit_code, parser, positive
from dht_torrent.search.similar import Kinship, Traits, likeness, ranked
from dht_torrent.search.sketch import (
    CONTENT_TREES,
    NAME_TREES,
    content_key,
    name_key,
)

PACKAGES = (
    *("attrs", "click", "flask", "jinja2", "markupsafe", "packaging", "pluggy", "pytest", "rich"),
    *("requests", "setuptools", "starlette", "tomli", "trio", "urllib3", "werkzeug", "httpx"),
    *("hypothesis", "pygments", "sqlalchemy"),
)
VERSIONS = 8
INDEX = "https://pypi.org/pypi/{}/json"
MOST = 64 * 1024 * 1024
"""Bytes of one package."""
LEAF = 13
"""Entries that one node of a tree holds."""


@dataclass(frozen=True, slots=True)
class Version:
    package: str
    version: str
    place: int
    """Among those of its package, the oldest first."""
    traits: Traits


def main(argv: Sequence[str] | None = None) -> None:
    made = parser(__doc__ or "")
    made.add_argument("--cache", type=Path, required=True, metavar="DIR", help="for the packages")
    made.add_argument("--packages", type=positive, default=len(PACKAGES), help="so many of them")
    made.add_argument("--entries", type=positive, default=93_000, help="of the index (93000)")
    made.add_argument("--packed", action="store_true", help="the archives alone")
    made.add_argument("--unpacked", action="store_true", help="the folders alone")
    args = made.parse_args(argv)
    names = PACKAGES[: args.packages]
    cache: Path = args.cache
    args.cache = None  # a path of this machine says nothing about the figures
    study = Study(args)
    with study.progress("packages", len(names)) as done:
        for number, name in enumerate(names, 1):
            fetch(name, cache)
            done(number)
    kinds = [kind for kind in ("unpacked", "packed") if not getattr(args, other(kind))]
    for kind in kinds or ["unpacked", "packed"]:
        measure(study, kind, read(kind, names, cache), args.entries)
    study.report()


def other(kind: str) -> str:
    return "packed" if kind == "unpacked" else "unpacked"


def fetch(package: str, cache: Path) -> None:
    """The last versions that have a source archive, none of them a preview."""
    folder = cache / "packed" / package
    if (folder / "done").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with urllib.request.urlopen(INDEX.format(package), timeout=60) as response:  # noqa: S310
        releases: dict[str, list[dict[str, Any]]] = json.load(response)["releases"]
    dated = []
    for version, files in releases.items():
        source = [one for one in files if one["filename"].endswith(".tar.gz")]
        if source and version.replace(".", "").isdecimal() and not source[0]["yanked"]:
            dated.append((tuple(map(int, version.split("."))), version, source[0]))
    order = []
    for _, version, file in sorted(dated, key=lambda one: one[0])[-VERSIONS:]:
        path = folder / file["filename"]
        if not path.exists():
            url = urllib.parse.urljoin(INDEX.format(package), file["url"])
            with urllib.request.urlopen(url, timeout=180) as response:  # noqa: S310
                path.write_bytes(response.read(MOST))
        target = cache / "unpacked" / package / path.name.removesuffix(".tar.gz")
        if not target.exists():
            unpacking = target.with_suffix(".part")
            shutil.rmtree(unpacking, ignore_errors=True)
            with tarfile.open(path) as archive:
                archive.extractall(unpacking, filter="data")
            (inner,) = unpacking.iterdir()
            target.parent.mkdir(parents=True, exist_ok=True)
            inner.rename(target)
            unpacking.rmdir()
        order.append([version, path.name])
    (folder / "done").write_text(json.dumps(order))


def read(kind: str, packages: Sequence[str], cache: Path) -> list[Version]:
    found = []
    for package in packages:
        order = json.loads((cache / "packed" / package / "done").read_text())
        for place, (version, name) in enumerate(order):
            path = cache / kind / package / name
            if kind == "unpacked":
                path = path.with_name(name.removesuffix(".tar.gz"))
            found.append(Version(package, version, place, traits_of(path)))
    return found


def keys_of(traits: Traits, depth: int) -> set[tuple[str, int, str]]:
    """The nodes of the trees that its entries are in."""
    keys = set()
    if traits.content is not None:
        for tree in range(CONTENT_TREES):
            keys.add(("c", tree, content_key(traits.content, tree).hex()[:depth]))
    for tree in range(NAME_TREES):
        if (key := name_key(traits.named, traits.listed, tree)) is not None:
            keys.add(("n", tree, key.hex()[:depth]))
    return keys


def measure(study: Study, kind: str, versions: Sequence[Version], entries: int) -> None:
    depth = math.ceil(math.log(entries / LEAF, 16))
    keys = [keys_of(one.traits, depth) for one in versions]
    asked = three = found = near = wrong = 0
    contents = []
    for number, one in enumerate(versions):
        others = [
            (other, likeness(one.traits, other.traits))
            for place, other in enumerate(versions)
            if place != number and keys[place] & keys[number]
        ]
        order = [
            others[place]
            for place in ranked(one.traits, [(other.traits, alike) for other, alike in others])
        ]
        wrong += sum(
            alike.kinship is Kinship.NEAR_DUPLICATE and other.package != one.package
            for other, alike in order
        )
        before = [
            (place, alike)
            for place, (other, alike) in enumerate(order, 1)
            if other.package == one.package and other.place == one.place - 1
        ]
        if not one.place:
            continue
        asked += 1
        place, alike = before[0] if before else (None, None)
        three += place is not None and place <= 3
        found += place is not None
        if alike is not None:
            near += alike.kinship is Kinship.NEAR_DUPLICATE
            contents.append(alike.content or 0.0)
        study.row(
            kind=kind,
            package=one.package,
            version=one.version,
            place=place,
            word=alike.kinship.value if alike is not None and alike.kinship is not None else None,
            content=alike.content if alike is not None else None,
            title=alike.title if alike is not None else None,
            candidates=len(others),
        )
    study.figures |= {
        f"{kind}_versions": asked,
        f"{kind}_first_three": three / asked,
        f"{kind}_found": found / asked,
        f"{kind}_near": near / asked,
        f"{kind}_wrong": wrong,
        f"{kind}_content_mean": sum(contents) / len(contents) if contents else 0.0,
    }


if __name__ == "__main__":
    sys.exit(exit_code(main))
