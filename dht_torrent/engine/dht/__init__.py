"""The DHT node on the network: `node` owns it, `dual_stack` is how torrents and users reach it.

- `core`: what the parts share; `transactions`: queries in flight; `responder`: others' queries
- `lookups`: iterative searches; on them `announces`: peers, `items`: BEP 44 values (`surveys`: what
  was found of one), `samples`: what nodes store
- `bootstrap`: the way into the network; `maintenance`: pings and refreshes
- `views`: what people see; `traffic`: what came in
"""
