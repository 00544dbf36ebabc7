"""Torrents at work. `torrent` is what users see; behind it `supervisor` owns a torrent and runs one
`session` after another. What they share is in `core`, and what every part knows in `context`.

- *Asked and recorded*: `commands`, `record`, `totals`, `watch`. - *Connections*: `connections`
dials and takes in, `discovery` finds whom, `handshake` and `admission` come before a `peer` is one,
and in an SSL torrent `joining`;
`room` is how many there may be, `rate_limits` how fast. - *What is said*: the stage in `stages`
hears it; `swarm` takes what is about pieces, with `uploads`, `banning` and `saving`; `extensions`
all else. An extension is a class (see `extension`), such as those in `metadata` and `upload_only`,
and a line in a table. - *On disk*: `place`, `content`, `ownership`, `changes`, `sharing`, `disk`.
"""
