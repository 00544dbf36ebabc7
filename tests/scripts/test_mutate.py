"""The script that looks for faults no test would notice."""

from __future__ import annotations

from tests.helpers.scripts import run


def test_faults_are_put_in_and_most_are_noticed() -> None:
    done = run("mutate.py", "dht_torrent/dht/tokens.py", "--tests", "tests/dht/test_tokens.py")
    *_, last = done.stdout.splitlines()
    tried, _, results = last.partition(" tried: ")
    counts = {what: int(n) for n, _, what in (part.partition(" ") for part in results.split(", "))}
    assert sum(counts.values()) == int(tried) > 20
    assert counts["killed"] > 0.7 * int(tried)


def test_tests_that_fail_anyway_tell_nothing() -> None:
    done = run("mutate.py", "dht_torrent/dht/tokens.py", "--tests", "tests/no_such.py")
    assert done.returncode == 4
    assert done.stdout.splitlines()[-1] == "0 tried: "
