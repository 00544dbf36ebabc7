from __future__ import annotations

import gc
import hashlib
import os
import random
import subprocess
import sys
import time
import weakref

import pytest
import trio

from dht_torrent.ids import Address
from dht_torrent.lab.net.network import FakeNetwork
from dht_torrent.lab.run import run


async def babble(rng: random.Random, nodes: int) -> str:
    """Many hosts chatting over a bad network; the digest tells any two runs apart."""
    net = FakeNetwork(rng, latency=(0.01, 0.3), loss=0.1, duplication=0.1, reordering=0.1)
    addresses = [Address(f"10.0.0.{n}", 6881) for n in range(1, nodes + 1)]
    digest = hashlib.sha256()

    async def chat(me: Address) -> None:
        socket = await net.host(me.host).open_udp(me)
        socket.send(b"0", rng.choice(addresses))
        while True:
            for data, source in await socket.receive():
                digest.update(f"{trio.current_time()} {me} {source} {data!r}".encode())
                if rng.random() < 0.7:
                    socket.send(b"%d" % (int(data) + 1), rng.choice(addresses))
                    socket.send(data, source)

    with trio.move_on_after(1.5):
        async with trio.open_nursery() as nursery:
            for address in addresses:
                nursery.start_soon(chat, address)
    return f"{net.stats.datagrams} {digest.hexdigest()}"


def test_the_same_seed_gives_the_same_run() -> None:
    assert run(babble, 10, seed=3) == run(babble, 10, seed=3)


def test_another_seed_gives_another_run() -> None:
    assert run(babble, 10, seed=3) != run(babble, 10, seed=4)


def test_the_same_seed_gives_the_same_run_in_another_process() -> None:
    program = (
        "import sys, importlib.util\n"
        "spec = importlib.util.spec_from_file_location('here', sys.argv[1])\n"
        "here = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(here)\n"
        "print(here.run(here.babble, 10, seed=3))\n"
    )
    # Hashes of bytes and str differ between these, and with them the order of sets.
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, __file__],
            env=os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hash_seed in ("1", "2")
    ]
    outputs = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert outputs == [run(babble, 10, seed=3)] * 2


def test_the_scheduler_is_seeded_too() -> None:
    async def order(rng: random.Random) -> list[int]:
        finished: list[int] = []

        async def step(number: int) -> None:
            await trio.lowlevel.checkpoint()
            finished.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(step, number)
        return finished

    runs = [run(order, seed=seed) for seed in range(5)]
    assert runs == [run(order, seed=seed) for seed in range(5)]
    assert len(set(map(tuple, runs))) == 5


def test_a_day_passes_in_no_time() -> None:
    async def sleep(rng: random.Random) -> float:
        start = trio.current_time()
        await trio.sleep(86_400)
        return trio.current_time() - start

    start = time.process_time()
    assert run(sleep) == pytest.approx(86_400)
    assert time.process_time() - start < 5


def test_trio_gets_its_own_dice_back_even_after_an_error() -> None:
    core = trio._core._run
    before = core._r, core._ALLOW_DETERMINISTIC_SCHEDULING

    async def fail(rng: random.Random) -> None:
        raise LookupError("as planned")

    with pytest.raises(LookupError, match="as planned"):
        run(fail)
    assert (core._r, core._ALLOW_DETERMINISTIC_SCHEDULING) == before


async def _interrupted(rng: random.Random, *others: Exception) -> None:
    async def fail(error: BaseException) -> None:
        raise error

    async with trio.open_nursery() as outer, trio.open_nursery() as inner:
        outer.start_soon(trio.sleep_forever)
        for error in (KeyboardInterrupt(), *others):
            inner.start_soon(fail, error)


def test_ctrl_c_comes_out_as_what_it_is_however_deep_it_hits() -> None:
    with pytest.raises(KeyboardInterrupt):
        run(_interrupted)


def test_ctrl_c_hides_no_error_that_happened_with_it() -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        run(_interrupted, LookupError("a bug"))
    assert caught.value.subgroup(LookupError) is not None


def test_garbage_is_collected_rarely_but_it_is() -> None:
    async def threshold(rng: random.Random) -> tuple[bool, int, int]:
        return gc.isenabled(), gc.get_threshold()[0], gc.get_freeze_count()

    before = gc.get_threshold()
    enabled, objects, frozen = run(threshold)
    assert enabled
    assert objects >= 50_000
    assert frozen > 0
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)


def test_what_the_last_run_of_a_process_leaves_is_not_looked_through() -> None:
    class Circle:
        def __init__(self) -> None:
            self.itself = self

    async def leave(rng: random.Random) -> weakref.ref[Circle]:
        return weakref.ref(Circle())

    before = gc.get_threshold()
    left = run(leave, is_last=True)
    gc.collect()
    assert left() is not None
    assert gc.get_threshold() == before
    run(leave)  # it was not the last one
    gc.collect()
    assert left() is None
