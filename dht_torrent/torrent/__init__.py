"""One torrent's decisions: which block to ask of which peer; which peers to unchoke, to dial and to
ban.

Everything here is plain synchronous code: time, chance and configuration are arguments, and what
should be done is returned. A `peer` is an int key the caller gives each connection, never reused.

- which block: `picker` chooses, with `missing`, `availability`, `selection`, `solo` and `endgame`;
  `assembly` keeps the books of it, in `pieces` and `peer_pieces`; `pipeline` and `reach`: how many
  at a time; `memory`: within which bounds
- whom: `candidates` to dial, `connection_slots` and `duplicates` for who stays, `choker` to unchoke
- `super_seed`: which piece a first seed shows to whom
- whom to blame: `smart_ban`, `parole`, `bans`
- `metadata`: the info dict from peers; `limits`: rates; `turns`: at what all torrents share
"""
