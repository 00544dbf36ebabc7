"""A network in memory, with latency, loss and partitions.

- `network`: the whole of it, behind the Protocols of `engine.net`; `topology`: its hosts
- `link`: what lies between two hosts; `datagrams`, `streams`: what travels there
- `nat`: the routers that hide hosts
- `multicast`: local networks, and what travels in them
"""
