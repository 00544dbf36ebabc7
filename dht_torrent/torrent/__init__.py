"""One torrent's decisions: which block from whom, whom to unchoke, whom to dial, whom to blame.

Everything here is plain synchronous code: time, chance and configuration are arguments, and what
should be done is returned. A `peer` is an int key the caller gives each connection, never reused.
"""
