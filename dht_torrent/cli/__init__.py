"""The command line.

- `main`: `dhtnode` itself: run a node, share, get, create, show
- `running`: commands that look at a running node, or steer it; `dht`: `dhtnode dht`
- `authority`: `dhtnode tls-ca`, certificates for SSL torrents
- `node`: options of a node, and how to reach one; `failures`: one line and an exit code
- `sources`: torrents as people give them; `view`: what people read; `streams`: stdout and stderr as
  they are
"""
