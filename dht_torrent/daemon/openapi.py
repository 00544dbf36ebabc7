"""What the control API is, for machines: an OpenAPI 3.1 document, at `/api/openapi.json`.

An entry for each operation says what it takes and gives. Bodies are described from the very tables
that they are checked with, answers from the views that are sent. It is made when it is first asked
for; `tests/daemon/test_openapi.py` sees to it that it has all routes and no others, and that the
application does as it says.
"""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from dht_torrent import __version__
from dht_torrent.daemon import dht_api, following_api, keeping_api, similar_api, subscription_api
from dht_torrent.daemon.adding import Addition
from dht_torrent.daemon.control import HEADER
from dht_torrent.daemon.lines import LINES
from dht_torrent.daemon.reload import Reloaded
from dht_torrent.daemon.search_api import JUDGE, MAX_TAG, MAX_TAGS
from dht_torrent.engine.following.views import FollowView, PublishedView
from dht_torrent.engine.search.views import (
    CatalogueImport,
    CatalogueStatus,
    PublisherView,
    SearchResult,
    SimilarFound,
    SubscriptionView,
)
from dht_torrent.engine.views import FileInfo, NodeStatus, PeerInfo, Summary
from dht_torrent.ids import Address, HostPort, InfoHash, NodeId

Json = dict[str, Any]

API: Final = "/api/v1"
FLAG: Final = {"type": "string", "enum": ["0", "1"]}
TAGS: Final = {
    "type": "array",
    "items": {"type": "string", "minLength": 1, "maxLength": MAX_TAG},
    "maxItems": MAX_TAGS,
}
TEXTS: Final = {"type": "array", "items": {"type": "string"}}
PATH: Final = {"type": "string", "pattern": "^/"}
RATE: Final = {"type": ["integer", "null"], "description": "Bytes per second; null is no limit."}
SEEDING: Final = {"oneOf": [{"type": "number"}, {"enum": ["node", "none"]}]}
FIELDS: Final[Mapping[str, Json]] = {
    "tags": TAGS,
    "labels": TEXTS,
    "sources": {"type": "array", "items": PATH},
    **dict.fromkeys(("share", "output", "folder", "tls_ca", "tls_cert", "tls_key"), PATH),
    "torrent": {"type": "string", "contentEncoding": "base64"},
    "trust": {"enum": ["trusted", "blocked", "none"]},
}
"""What a field is besides of its type, wherever it stands."""
LIMITS: Final[Mapping[str, Json]] = {
    **dict.fromkeys(("up", "down", "alternative_up", "alternative_down"), RATE),
    "alternative": {"type": "boolean"},
    "hours": {"type": ["string", "null"], "description": "As `mon-fri 09:00-17:00`."},
}
ERRORS: Final = {
    400: "It cannot be used.",
    401: "The token is missing or wrong.",
    403: "It does not come from a client of the owner's, or the page only looks.",
    404: "There is no such thing here.",
    409: "It cannot be done now.",
    413: "The body is too large.",
    421: "This server does not go by that name.",
    429: "There is too much of it going on already.",
}
RARE: Final = (429,)
"""Only where an operation says so."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What may be asked."""

    method: str
    path: str
    """Below `API`."""
    summary: str
    answer: Any
    """What comes: a type whose value is sent as JSON, or a schema."""
    takes: Mapping[str, type | Json] | None = None
    """The fields of the body; None: there is none."""
    needs: Sequence[str] = ()
    """Those of them that must be there."""
    query: Mapping[str, Json] = dataclasses.field(default_factory=dict)
    status: int = 200
    media: str = "application/json"
    errors: Sequence[int] = ()
    """Besides those that any request may meet."""
    takes_media: str = "application/json"


def _act(action: str, summary: str, answer: Any = Summary, **more: Any) -> Operation:
    return Operation("post", f"torrents/{{id}}/{action}", summary, answer, **more)


_STOPPING: Final = {"type": "object", "properties": {"stopping": {"type": "boolean"}}}
_OBJECT: Final = {"type": "object"}
_NUMBERS: Final = {"type": "array", "items": {"type": "integer"}}
_QUERY: Final[Mapping[str, Json]] = {
    "q": {"type": "string", "maxLength": 1000},
    "prefix": FLAG,
    "min_size": {"type": "integer", "minimum": 0},
    "max_size": {"type": "integer", "minimum": 0},
    "since": {"type": "number", "minimum": 0},
    "limit": {"type": "integer", "minimum": 1, "maximum": 1000},
    "patience": {"type": "number", "minimum": 0, "maximum": 600},
    "network": FLAG,
}
_DHT: Final = {
    "ping": "Ping a node.",
    "lookup": "Find the nodes closest to a target.",
    "peers": "Find peers of a torrent.",
    "get": "Get an item (BEP 44).",
    "put": "Store an item (BEP 44).",
    "scrape": "Estimate how many seed and fetch a torrent (BEP 33).",
    "sample": "Ask a node for infohashes that it stores (BEP 51).",
    "table": "The routing table.",
    "lookups": "Lookups that are under way or ended lately.",
    "size": "Estimate the size of the network.",
}
_REQUIRED_BY_DHT: Final = {
    "ping": ("address",),
    "lookup": ("target",),
    "peers": ("info_hash",),
    "scrape": ("info_hash",),
    "sample": ("address",),
}

OPERATIONS: Final = (
    Operation("get", "status", "How the node is.", NodeStatus),
    Operation("get", "torrents", "All torrents, in a line each.", list[Summary]),
    Operation(
        "post",
        "torrents",
        "Add a torrent: `source` is a magnet link or an infohash, `torrent` a file in base64,"
        " `share` what is here already; give one of them.",
        Summary,
        takes=Addition.KEYS,
        status=201,
    ),
    Operation("get", "torrents/{id}", "A torrent; digits of its id that it alone has do.", Summary),
    Operation(
        "delete",
        "torrents/{id}",
        "Remove a torrent, and with data=1 its files.",
        {"allOf": [{"type": "object", "properties": {"removed": {"type": "string"}}}]},
        query={"data": FLAG},
    ),
    Operation("get", "torrents/{id}/peers", "Its connections.", list[PeerInfo]),
    Operation("get", "torrents/{id}/files", "Its files.", list[FileInfo]),
    Operation(
        "get",
        "torrents/{id}/pieces",
        "The state of each piece, and how many of those who are connected have it.",
        {"type": "object", "properties": {"states": _NUMBERS, "availability": _NUMBERS}},
    ),
    Operation(
        "get", "torrents/{id}/watch", "The torrent whenever it changes.", Summary, media=LINES
    ),
    Operation(
        "get",
        "torrents/{id}/torrent",
        "The .torrent.",
        {"type": "string", "contentMediaType": "application/x-bittorrent"},
        media="application/x-bittorrent",
    ),
    _act("pause", "Pause it."),
    _act("resume", "Go on after a pause or an error."),
    _act("recheck", "Verify all that is here again."),
    _act("publish", "Put it into the index that everybody searches.", takes={"tags": list}),
    _act("unpublish", "Publish it no more.", _OBJECT),
    _act("limits", "Limit its rates.", takes={"up": RATE, "down": RATE}),
    _act("files", "Which files are wanted: ranges such as `0,2-3`.", takes=keeping_api.FILES),
    _act("labels", "Its labels.", takes=keeping_api.LABELS, needs=["labels"]),
    _act("seeding", "When it has been shared enough.", takes={"ratio": SEEDING, "idle": SEEDING}),
    _act(
        "queue",
        "Its place in the queue.",
        takes={"to": {"oneOf": [{"type": "integer"}, {"enum": ["top", "up", "down", "bottom"]}]}},
        needs=["to"],
    ),
    _act("announce", "Look for peers now.", takes={}),
    _act("move", "Have its content elsewhere.", takes=keeping_api.MOVE, needs=["folder"]),
    _act("rename", "Rename what it holds.", takes=keeping_api.RENAME, needs=["path", "name"]),
    Operation("post", "limits", "Limit the rates of all together.", NodeStatus, takes=LIMITS),
    *(
        Operation(
            "post",
            f"dht/{name}",
            _DHT[name],
            _OBJECT,
            takes=allowed,
            needs=_REQUIRED_BY_DHT.get(name, ()),
        )
        for name, (_, allowed) in dht_api.ACTIONS.items()
    ),
    Operation(
        "get",
        "search",
        "Search; results come as they are found.",
        SearchResult,
        query=_QUERY,
        media=LINES,
        errors=[429],
    ),
    Operation("post", "similar", "Similar torrents.", SimilarFound, takes=similar_api.SIMILAR),
    Operation("get", "publishers", "Whom the user trusts or blocks.", list[PublisherView]),
    Operation(
        "post", "publishers", "Trust or block.", _OBJECT, takes=JUDGE, needs=["key", "trust"]
    ),
    Operation("get", "catalogue", "How much of what there is we know.", CatalogueStatus),
    Operation("get", "catalogue/export", "All of it.", _OBJECT, media=LINES),
    Operation(
        "post",
        "catalogue/import",
        "Add lines of an export.",
        CatalogueImport,
        takes_media=LINES,
        takes={},
    ),
    Operation("get", "subscriptions", "Catalogues subscribed to.", list[SubscriptionView]),
    Operation(
        "post",
        "subscriptions",
        "Subscribe to a publisher's catalogue.",
        SubscriptionView,
        takes=subscription_api.LINK,
        needs=["link"],
        status=201,
    ),
    Operation(
        "post",
        "subscriptions/remove",
        "Subscribe no more.",
        SubscriptionView,
        takes=subscription_api.LINK,
        needs=["link"],
    ),
    Operation(
        "post",
        "catalogue/publish",
        "Publish our own catalogue.",
        {"type": "object", "properties": {"link": {"type": "string"}}},
        takes=subscription_api.PUBLISH,
        needs=["name"],
    ),
    Operation("get", "followed", "Links that are followed.", list[FollowView]),
    Operation(
        "post",
        "followed",
        "Follow a link.",
        FollowView,
        takes=following_api.FOLLOW,
        needs=["link"],
        status=201,
    ),
    Operation(
        "post",
        "followed/remove",
        "Follow a link no more.",
        FollowView,
        takes=following_api.UNFOLLOW,
        needs=["link"],
    ),
    Operation("get", "followed/{id}/watch", "It whenever it changes.", FollowView, media=LINES),
    Operation("get", "published", "Links that we publish.", list[PublishedView]),
    Operation(
        "post",
        "published",
        "Publish what is at a path under a link.",
        PublishedView,
        takes={**following_api.PUBLISH, "path": PATH},
        needs=["path", "name"],
        status=201,
    ),
    Operation(
        "post",
        "published/remove",
        "Publish it no more.",
        PublishedView,
        takes=following_api.UNPUBLISH,
        needs=["link"],
    ),
    Operation("post", "reload", "Read the configuration again.", Reloaded),
    Operation("post", "stop", "End the node.", _STOPPING),
)


@cache
def document() -> Json:
    """The OpenAPI document."""
    parts: Json = {}
    paths: Json = {}
    for one in OPERATIONS:
        paths.setdefault(f"{API}/{one.path}", {})[one.method] = _operation(one, parts)
    error = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    errors = {str(one): {"description": said, "content": content} for one, said in ERRORS.items()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "dht_torrent control API",
            "version": __version__,
            "license": {"name": "MIT", "identifier": "MIT"},
            "description": "What changes something needs the content type application/json, or a"
            f" {HEADER} header.",
        },
        "security": [{}, {"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": {**dict(sorted(parts.items())), "Error": error},
            "responses": errors,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(one: Operation, parts: Json) -> Json:
    errors = [status for status in ERRORS if status not in RARE or status in one.errors]
    told: Json = {
        "operationId": re.sub("[^a-z]+", "_", f"{one.method}_{one.path}").strip("_"),
        "summary": one.summary,
        "responses": {
            str(one.status): {
                "description": "Done.",
                "content": {one.media: {"schema": _answer(one, parts)}},
            },
            **{str(status): {"$ref": f"#/components/responses/{status}"} for status in errors},
        },
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"\{(\w+)\}", one.path)
    ]
    parameters += [{"name": name, "in": "query", "schema": of} for name, of in one.query.items()]
    if parameters:
        told["parameters"] = parameters
    if one.takes is not None:
        schema = _body(one) if one.takes_media == "application/json" else {"type": "string"}
        told["requestBody"] = {"required": True, "content": {one.takes_media: {"schema": schema}}}
    return told


def _answer(one: Operation, parts: Json) -> Json:
    if isinstance(one.answer, dict):
        return one.answer
    schema = schema_of(one.answer, parts)
    # Lines are values on their own: there is no schema of all of them.
    return {"type": "string", "x-each-line": schema} if one.media == LINES else schema


def _body(one: Operation) -> Json:
    assert one.takes is not None
    fields = {}
    for name, kind in one.takes.items():
        schema = (
            dict(kind) if isinstance(kind, Mapping) else {**_PLAIN[kind], **FIELDS.get(name, {})}
        )
        fields[name] = schema if name in one.needs else _or_null(schema, kind)
    body: Json = {"type": "object", "properties": fields, "additionalProperties": False}
    return {**body, "required": list(one.needs)} if one.needs else body


def _or_null(schema: Json, kind: type | Json) -> Json:
    """What is checked by type alone may be null, as if it were not given."""
    if isinstance(kind, Mapping):
        return schema
    return {"oneOf": [schema, {"type": "null"}]}


_PLAIN: Final[Mapping[Any, Json]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    list: {"type": "array"},
    type(None): {"type": "null"},
    object: {},
    Any: {},
    **{kind: {"type": "string"} for kind in (Path, Address, HostPort, bytes, NodeId, InfoHash)},
}


def schema_of(kind: Any, parts: Json) -> Json:
    """Of a type as `lines.plain` sends its values; dataclasses are put into `parts`."""
    if kind in _PLAIN:
        return dict(_PLAIN[kind])
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(one, parts) for one in arguments]}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": schema_of(arguments[1], parts)}
    if origin in (list, tuple):
        if origin is tuple and arguments[-1] is not ...:
            items = [schema_of(one, parts) for one in arguments]
            return {"type": "array", "prefixItems": items, "minItems": len(items)}
        return {"type": "array", "items": schema_of(arguments[0], parts)}
    if isinstance(kind, type) and issubclass(kind, IntEnum):
        return {"type": "integer", "enum": [one.value for one in kind]}
    if not dataclasses.is_dataclass(kind):
        raise TypeError(f"{kind!r} has no place in JSON")
    assert isinstance(kind, type)
    if kind.__name__ not in parts:
        parts[kind.__name__] = {}  # it may hold itself
        hints = get_type_hints(kind)
        names = [field.name for field in dataclasses.fields(kind)]
        parts[kind.__name__] = {
            "type": "object",
            "description": " ".join((kind.__doc__ or "").split()),
            "properties": {name: schema_of(hints[name], parts) for name in names},
            "required": names,
        }
    return {"$ref": f"#/components/schemas/{kind.__name__}"}
