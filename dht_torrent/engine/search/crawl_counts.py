"""What a crawl did, in figures, and why it finds nothing if it does not. The rule: whatever a crawl
took up ends in exactly one of the outcomes, so that the figures add up.
"""

from __future__ import annotations

from enum import StrEnum

from dht_torrent.config import CrawlConfig
from dht_torrent.engine.search.meter import HourCount
from dht_torrent.engine.search.views import CrawlStatus
from dht_torrent.engine.views import counted
from dht_torrent.search.crawl import CrawlPlan


class NodeOutcome(StrEnum):
    """What came of asking a node."""

    TOLD = "told"
    """Of torrents."""
    EMPTY = "empty"
    """It has none."""
    UNSUPPORTED = "unsupported"
    """It responds, and knows nothing of BEP 51."""
    SILENT = "silent"


class HashOutcome(StrEnum):
    """What came of looking at an infohash."""

    FOUND = "found"
    KNOWN = "known"
    """The catalogue had it."""
    DENIED = "denied"
    PRIVATE = "private"
    """It is private or an SSL torrent, and not for the catalogue."""
    TOO_LARGE = "too_large"
    """Its metadata is more than we take."""
    MALFORMED = "malformed"
    """Its metadata is nothing we accept."""
    NO_PEERS = "no_peers"
    UNREACHABLE = "unreachable"
    """There are peers, and none could be spoken with."""
    NO_METADATA = "no_metadata"
    """There are peers, and none gave the metadata in time."""

    @property
    def is_miss(self) -> bool:
        """Another time, or of others, there may be more to learn."""
        return self in (HashOutcome.NO_PEERS, HashOutcome.UNREACHABLE, HashOutcome.NO_METADATA)


_WHY: dict[HashOutcome, str] = {
    HashOutcome.KNOWN: "known already",
    HashOutcome.DENIED: "denied",
    HashOutcome.PRIVATE: "private",
    HashOutcome.TOO_LARGE: "with too much metadata",
    HashOutcome.MALFORMED: "with malformed metadata",
    HashOutcome.NO_PEERS: "without a peer",
    HashOutcome.UNREACHABLE: "whose peers cannot be reached",
    HashOutcome.NO_METADATA: "whose peers did not give the metadata",
}


class CrawlCounts:
    """Since the start, and within the last hour."""

    def __init__(self, config: CrawlConfig) -> None:
        self.queries = HourCount()
        self.fetches = HourCount()
        self.bytes = HourCount()
        self.trouble: str | None = None
        """What stands in the way, and is not the network's."""
        self._config = config
        self._nodes = {one: HourCount() for one in NodeOutcome}
        self._hashes = {one: HourCount() for one in HashOutcome}
        self._all = dict.fromkeys([*NodeOutcome, *HashOutcome], 0)

    def node(self, outcome: NodeOutcome, now: float) -> None:
        self._nodes[outcome].add(now)
        self._all[outcome] += 1

    def hash(self, outcome: HashOutcome, now: float) -> None:
        self._hashes[outcome].add(now)
        self._all[outcome] += 1

    def status(self, plan: CrawlPlan, now: float) -> CrawlStatus:
        """A snapshot for people."""
        config = self._config
        return CrawlStatus(
            nodes=sum(self._all[one] for one in NodeOutcome),
            nodes_told=self._all[NodeOutcome.TOLD],
            nodes_known=plan.nodes,
            named=plan.named,
            waiting=plan.waiting,
            found=self._all[HashOutcome.FOUND],
            found_hour=self._hashes[HashOutcome.FOUND].within(now),
            outcomes={one.value: self._all[one] for one in HashOutcome if self._all[one]},
            queries_hour=self.queries.within(now),
            queries_hour_most=config.max_queries_per_hour,
            fetches_hour=self.fetches.within(now),
            fetches_hour_most=config.max_fetches_per_hour,
            bytes_hour=self.bytes.within(now),
            bytes_hour_most=config.max_bytes_per_hour,
            why=self._why(plan, now),
        )

    def _why(self, plan: CrawlPlan, now: float) -> str | None:
        """Why nothing was found within the hour, in a line; None: something was."""
        if self.trouble is not None:
            return self.trouble
        if self._hashes[HashOutcome.FOUND].within(now):
            return None
        looked = {one: count.within(now) for one, count in self._hashes.items()}
        total = sum(looked.values())
        if total:
            parts = [
                f"{looked[one]} {text}"
                for one, text in sorted(_WHY.items(), key=lambda item: -looked[item[0]])
                if looked[one]
            ]
            return f"nothing new among {counted(total, 'torrent')} of this hour: {', '.join(parts)}"
        asked = {one: count.within(now) for one, count in self._nodes.items()}
        total = sum(asked.values())
        if not total:
            if plan.nodes or self._all[NodeOutcome.TOLD]:
                return "all nodes known were asked, and their intervals are not over"
            return "no node is known yet that could be asked"
        told, empty = asked[NodeOutcome.TOLD], asked[NodeOutcome.EMPTY]
        if told:
            return "all that the nodes named was looked at before" if plan.is_idle else None
        if empty:
            return f"{counted(empty, 'node')} answered, and none has a torrent"
        return (
            f"none of {counted(total, 'node')} answered: {asked[NodeOutcome.SILENT]} were silent,"
            f" {asked[NodeOutcome.UNSUPPORTED]} do not know BEP 51"
        )
