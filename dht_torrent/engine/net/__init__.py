"""The network: what the engine asks of one (`protocols`), and the real one.

- `interfaces`: those of this machine, for multicast
- `sockets`: the real network, and UDP; `tcp`: its connections; `bare`: what all sockets share
- `mmsg`: many datagrams with one system call; `ports`: where to listen
- `utp`: uTP beside the DHT on its UDP socket; `fragments`: datagrams that must stay whole
- `tls`: TLS around a stream, for SSL torrents
"""
