"""The peer wire: messages, extensions and the state of one connection, as bytes (sans-IO)."""
