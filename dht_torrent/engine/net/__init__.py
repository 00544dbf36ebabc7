"""The network: what the engine asks of one (`protocols`), and the real one.

- `interfaces`: those of this machine, for multicast
- `sockets`: TCP and UDP; `mmsg`: many datagrams with one system call; `ports`: where to listen
- `tls`: TLS around a stream, for SSL torrents
"""
