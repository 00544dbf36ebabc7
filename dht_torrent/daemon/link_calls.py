"""Links whose content changes, as a client of a running node has them: `Client.links`. Among them
are publishers' catalogues.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote


class LinkCalls:
    """Each method is one request, and raises what those of `Client` do."""

    def __init__(
        self,
        ask: Callable[[str, str, dict[str, Any] | None], object],
        ask_slowly: Callable[[str, str, dict[str, Any] | None], object],
        lines: Callable[[str], Generator[dict[str, Any], None, None]],
    ) -> None:
        """`ask_slowly` has no time limit."""
        self._ask = ask
        self._ask_slowly = ask_slowly
        self._lines = lines

    def follow(
        self, link: str, *, output: Path | None = None, keep: int | None = None
    ) -> dict[str, Any]:
        """See `Node.follow`; `output` must be absolute. Returns a FollowView."""
        body: dict[str, Any] = {"link": link, "keep": keep}
        if output is not None:
            body["output"] = str(output)
        return cast("dict[str, Any]", self._ask("POST", "followed", body))

    def followed(self) -> list[dict[str, Any]]:
        """A FollowView for each link that is followed."""
        return cast("list[dict[str, Any]]", self._ask("GET", "followed", None))

    def watch(self, link_id: str) -> Generator[dict[str, Any], None, None]:
        """The FollowView of a link now and whenever it changes, and again after ten seconds. Holds
        a connection: see `Client.watch`."""
        yield from self._lines(f"followed/{quote(link_id, safe='')}/watch")

    def unfollow(self, link: str, *, data: bool = False) -> dict[str, Any]:
        """See `Node.unfollow`. Returns the FollowView that it had."""
        return cast(
            "dict[str, Any]",
            self._ask_slowly("POST", "followed/remove", {"link": link, "data": data}),
        )

    def publish(self, path: Path, name: str, *, key: str | None = None) -> dict[str, Any]:
        """See `Node.publish_link`; `path` must be absolute. Returns a PublishedView once it is
        hashed, which may take minutes."""
        body: dict[str, Any] = {"path": str(path), "name": name, "key": key}
        return cast("dict[str, Any]", self._ask_slowly("POST", "published", body))

    def published(self) -> list[dict[str, Any]]:
        """A PublishedView for each link that is published."""
        return cast("list[dict[str, Any]]", self._ask("GET", "published", None))

    def unpublish(self, link: str) -> dict[str, Any]:
        """See `Node.unpublish_link`. Returns the PublishedView that it had."""
        return cast("dict[str, Any]", self._ask("POST", "published/remove", {"link": link}))

    # -- publishers' catalogues -----------------------------------------------------------------

    def subscribe(self, link: str) -> dict[str, Any]:
        """See `Subscriptions.subscribe`. Returns a SubscriptionView."""
        return cast("dict[str, Any]", self._ask("POST", "subscriptions", {"link": link}))

    def subscriptions(self) -> list[dict[str, Any]]:
        """A SubscriptionView for each catalogue that is subscribed to."""
        return cast("list[dict[str, Any]]", self._ask("GET", "subscriptions", None))

    def unsubscribe(self, link: str) -> dict[str, Any]:
        """See `Subscriptions.unsubscribe`. Returns the SubscriptionView that it had."""
        return cast(
            "dict[str, Any]", self._ask_slowly("POST", "subscriptions/remove", {"link": link})
        )

    def publish_catalogue(self, name: str, *, key: str | None = None) -> dict[str, Any]:
        """See `CatalogueFeeds.publish`. Returns the `link`."""
        body: dict[str, Any] = {"name": name, "key": key}
        return cast("dict[str, Any]", self._ask_slowly("POST", "catalogue/publish", body))
