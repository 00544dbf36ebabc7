"""Transmission's RPC, in the two dialects that its clients speak: the tools that steer Transmission
steer this node as well.

`names` how a thing is called in each dialect; `calls` a request and its answer; `ids` the numbers
that clients know torrents by; `torrent_fields` and `session_fields` what is told; `methods` what is
done; `endpoint` HTTP, with the session id and the log-in. All of it goes through `Node` and
`Torrent`.
"""
