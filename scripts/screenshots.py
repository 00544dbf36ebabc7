"""Pictures of the web page, for the README: of a node with torrents in all states, in a DHT of real
nodes on this machine, in light and dark, on a desktop and a phone.

    python scripts/screenshots.py [--out notebooks/figures/page] [--only torrents ...] [--quick]

Needs Playwright (`pip install '.[browser]'`) and Debian's `chromium`, or another by CHROMIUM.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import random
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio
from PIL import Image

from dht_torrent import Config, Node, open_node
from dht_torrent.daemon.web_app import WebOptions
from dht_torrent.daemon.web_server import serve_web
from dht_torrent.ids import Address, HostPort
from dht_torrent.lab.population.testnet import open_testnet

if TYPE_CHECKING:
    from playwright.sync_api import Page

MIB = 1024 * 1024
DESKTOP, PHONE = (1280, 800), (390, 844)


@dataclass(frozen=True)
class Shown:
    """A torrent of the picture: what is shared, and how fast it comes."""

    name: str
    size: int
    rate: int | None = None
    """Bytes per second; None: it is here, and is seeded."""
    files: int = 1
    seeds: int = 1


ALL = (
    Shown("debian-13.2.0-amd64-netinst.iso", 48 * MIB),
    Shown("Big Buck Bunny (2008) 2160p", 320 * MIB, 640_000, files=5, seeds=4),
    Shown("archlinux-2026.11.01-x86_64.iso", 128 * MIB, 330_000, seeds=3),
    Shown("Sita Sings the Blues (2008) 1080p.mkv", 40 * MIB),
    Shown("Moby Dick, read by volunteers", 24 * MIB, files=12),
    Shown("LibreOffice 26.8 source", 32 * MIB),
    Shown("Tears of Steel (2012) with subtitles", 110 * MIB, 240_000, files=4, seeds=2),
    Shown("OpenStreetMap planet, week 47", 72 * MIB),
    Shown("Le Voyage dans la Lune (1902), restauré", 16 * MIB),
    Shown("Elephants Dream (2006)", 20 * MIB),
)


@dataclass(frozen=True)
class Scale:
    """How much there is to see, and how long it is waited for."""

    torrents: tuple[Shown, ...] = ALL
    dht_nodes: int = 160
    settles: float = 12.0
    """Seconds until the rates are those of the limits ..."""
    charted: float = 30.0
    """... and until the chart shows some time."""
    calm: float = 6.0
    """Seconds before the first of the other pictures."""
    pace: float = 1.0
    """How long what moves is given, of the usual."""


QUICK = Scale(
    tuple(replace(one, size=one.size // 40, rate=one.rate and one.rate // 10) for one in ALL[:4]),
    dht_nodes=24,
    settles=0.5,
    charted=2.5,
    calm=0.5,
    pace=0.1,
)
"""Whether it works, not how it looks."""

PUBLISHED = (
    "Night of the Living Dead (1968) restored",
    "The General (1926) Buster Keaton, restored",
    "Metropolis (1927) restored, with score",
    "Nosferatu (1922) restored 1080p",
    "A Trip to the Moon (1902) restored, in colour",
    "Safety Last (1923) restored",
)
"""What others publish."""
NOWHERE = (
    "magnet:?xt=urn:btih:8c1f0a5f7a21b9e3a2f54c8f0dcd04a9b6b0e0aa&dn=A+recording+nobody+shares"
)


def config(folder: Path, entry: Address, **changes: Any) -> Config:
    folder.mkdir(parents=True, exist_ok=True)
    plain = Config(
        bootstrap=[HostPort(*entry)],
        listen="127.0.0.1:0",
        state_dir=None,
        download_dir=folder,
        lsd=False,
        port_mapping=False,
    )
    return replace(plain, **changes)


def fill(path: Path, one: Shown, rng: random.Random) -> Path:
    """Make its content."""
    target = path / one.name
    if one.files == 1:
        target.write_bytes(rng.randbytes(one.size))
        return target
    target.mkdir()
    for number in range(one.files):
        part = one.size // one.files // (1 + number % 3)
        (target / f"part {number + 1:02}.mkv").write_bytes(rng.randbytes(part))
    (target / "subtitles").mkdir()
    (target / "subtitles" / "english.srt").write_bytes(rng.randbytes(40_000))
    return target


@contextlib.asynccontextmanager
async def world(folder: Path, scale: Scale) -> AsyncIterator[str]:
    """A node with its torrents. Yields its secret link."""
    rng = random.Random(7)
    links: list[str] = []
    options = WebOptions(address=Address("127.0.0.1", 0), told=links.append)
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        testnet = await enter(open_testnet(scale.dht_nodes, rng=rng, spread=True))
        entry = testnet[0].address
        seeds = [
            await enter(open_node(config(folder / f"seed{n}", entry, listen=f"127.0.{n + 1}.1:0")))
            for n in range(4)
        ]
        node = await enter(open_node(config(folder / "ours", entry, state_dir=folder / "state")))
        nursery = await enter(trio.open_nursery())
        await nursery.start(partial(serve_web, node, options, folder / "state"))
        await fetch(node, seeds, folder, rng, scale)
        yield next(line.split()[-1] for line in links if "page is at" in line)
        nursery.cancel_scope.cancel()


async def fetch(
    node: Node, seeds: list[Node], folder: Path, rng: random.Random, scale: Scale
) -> None:
    """Give it something to show."""
    content = folder / "content"
    content.mkdir()
    for one in scale.torrents:
        path = fill(content, one, rng)
        if one.rate is None:
            await node.share(path, publish=True)
            continue
        for seed in seeds[: one.seeds]:
            shared = await seed.share(path)
        torrent = await node.get(shared.magnet)
        torrent.add_peers([HostPort(*seed.address) for seed in seeds[: one.seeds]])
        async for snapshot in torrent.watch(per_second=20):
            if snapshot.progress > 0.3:
                break
        torrent.set_limits(down=one.rate)
    for number, name in enumerate(PUBLISHED):
        path = fill(content, Shown(name, 3 * MIB), rng)
        await seeds[number % 2].share(path, publish=True)
    await node.get(NOWHERE)
    first, *_ = node.torrents.values()
    await first.set_labels(["linux"])
    for torrent in list(node.torrents.values())[7:8]:
        await torrent.pause()
    leech = seeds[-1]
    await trio.sleep(scale.settles)
    for torrent in (first, *list(node.torrents.values())[3:4]):
        taken = await leech.get(torrent.magnet)
        taken.add_peers([HostPort(*node.address)])
        taken.set_limits(down=420_000)


def take(link: str, out: Path, only: list[str], scale: Scale) -> None:
    """All pictures, by a browser of its own."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for scheme, (width, height), kind in (
            ("light", DESKTOP, ""),
            ("dark", DESKTOP, "-dark"),
            ("dark", PHONE, "-phone"),
        ):
            context = browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme=scheme,
                device_scale_factor=2 if kind == "-phone" else 1,
                is_mobile=kind == "-phone",
            )
            page = context.new_page()
            page.on("console", lambda message: print(message.text, file=sys.stderr))
            page.on("pageerror", lambda error: print(error, file=sys.stderr))
            page.goto(link)
            page.wait_for_selector(".item")
            page.wait_for_timeout(1000 * (scale.charted if kind == "" else scale.calm))
            for name, go in PAGES.items():
                if name in (only or (PAGES if kind != "-phone" else ON_PHONE)):
                    go(page, scale.pace)
                    save(page.screenshot(), out / f"{name}{kind}.webp")
            context.close()
        browser.close()


def save(picture: bytes, path: Path) -> None:
    """As small as it is still sharp."""
    with Image.open(io.BytesIO(picture)) as image:
        image.save(path, quality=86, method=6)
    print(f"{path}: {path.stat().st_size // 1000} KB")


def go_to(page: Page, where: str) -> None:
    page.evaluate("where => { location.hash = where; }", where)


def torrents(page: Page, pace: float) -> None:
    go_to(page, "#/")
    page.get_by_label("Order").select_option("speed")
    page.wait_for_timeout(1500 * pace)


def torrent(page: Page, pace: float) -> None:
    torrents(page, pace)
    page.locator(".item", has_text="Big Buck Bunny").locator(".name").click(timeout=5000)
    page.wait_for_selector("td.file")
    page.wait_for_timeout(3500 * pace)


def search(page: Page, pace: float) -> None:
    go_to(page, "#/search")
    page.fill("#q", "restored")
    page.press("#q", "Enter")
    page.wait_for_selector(".result")
    page.wait_for_timeout(1500 * pace)


def dht(page: Page, pace: float) -> None:
    go_to(page, "#/dht")
    page.wait_for_selector(".tree svg")
    page.get_by_role("button", name="Look up").click()
    page.evaluate("scrollTo(0, 0)")
    page.mouse.move(0, 0)
    page.wait_for_timeout(4500 * pace)


PAGES = {"torrents": torrents, "torrent": torrent, "search": search, "dht": dht}


ON_PHONE = ("torrents", "dht")


async def run(out: Path, only: list[str], scale: Scale) -> None:
    with tempfile.TemporaryDirectory(prefix="dhtnode-pictures-") as folder:
        async with world(Path(folder), scale) as link:
            await trio.to_thread.run_sync(take, link, out, only, scale)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("notebooks/figures/page"), metavar="DIR")
    parser.add_argument("--only", nargs="*", default=[], choices=list(PAGES), metavar="PAGE")
    parser.add_argument("--quick", action="store_true", help="little to see: does it work?")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    trio.run(run, args.out, args.only, QUICK if args.quick else Scale())


if __name__ == "__main__":
    main()
