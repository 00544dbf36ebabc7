"""The peer wire: messages, extensions and the state of one connection, as bytes (sans-IO).

- `connection`: bytes to events, messages to bytes; `messages`, `extensions`: their codecs
- `identity`: what clients call themselves; `fast`: pieces a choked newcomer may have
- `mse`: the handshake of encrypted connections
- `tls`: which torrent a TLS connection is for; `certificates`: who belongs to an SSL torrent
- `half_open`, `unchecked`, `pace`: what a peer may cost before its handshake, before the metadata
  is known, and in messages
- `lsd`: announces of and to the local network
"""
