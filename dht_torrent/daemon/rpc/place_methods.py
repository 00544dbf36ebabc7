"""Where the content of torrents lies, and what it is called: below the folders that clients may
use, from there and to there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dht_torrent.daemon.rpc import params as read
from dht_torrent.daemon.rpc.calls import INVALID_PARAMS, RpcError
from dht_torrent.daemon.rpc.torrent_methods import chosen, each

if TYPE_CHECKING:
    from dht_torrent.daemon.rpc.names import Names
    from dht_torrent.daemon.rpc.settings import Settings
    from dht_torrent.daemon.rpc.torrent_methods import Params, Result
    from dht_torrent.engine.torrent.torrent import Torrent


async def torrent_set_location(settings: Settings, params: Params, names: Names) -> Result:
    """It is moved in the background, as by Transmission; what goes wrong then is the torrent's
    error. Without `move` its content is there already."""
    if params.get("location") is None:
        raise RpcError(INVALID_PARAMS, "no location")
    folder = settings.folder(params["location"], "new location path")
    moves = read.boolean(params, "move") or False

    async def place(torrent: Torrent) -> None:
        if moves:
            settings.folder(str(torrent.folder))  # nothing is taken from elsewhere
            await torrent.move(folder, wait=False)
        else:
            await torrent.look_in(folder)

    return await each(settings, params, place)


async def torrent_rename_path(settings: Settings, params: Params, names: Names) -> Result:
    path, name = read.text(params, "path"), read.text(params, "name")
    torrents = chosen(settings, params)
    if len(torrents) != 1:
        raise RpcError(INVALID_PARAMS, "torrent-rename-path requires 1 torrent")
    if not path or not name:
        raise RpcError(INVALID_PARAMS, "path and name are missing")
    (torrent,) = torrents
    settings.folder(str(torrent.folder))
    await torrent.rename(path, name)
    return {
        names["path"]: path,
        names["name"]: name,
        names["id"]: settings.ids.of(torrent.info_hash),
    }
