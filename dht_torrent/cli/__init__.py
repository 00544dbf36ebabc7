"""The command line.

- `main`: `dhtnode` itself: run a node, share, get, create, show
- `running`: commands that look at a running node, or steer it; `dht`: `dhtnode dht`
- `authority`: `dhtnode tls-ca`, certificates for SSL torrents
- `declared`: the options of a node; `options`: how one is declared; `settings`: who says what it is
- `configuring`: `dhtnode config` and `reload`; `reloading`: how a node reads it again
- `node`: a node in this process, and how to reach one; `failures`: one line and an exit code
- `logs`: what is logged; `desktop`: magnet links on a desktop, completion in shells
- `sources`: torrents as people give them; `view`: what people read; `streams`: stdout and stderr as
  they are
"""
