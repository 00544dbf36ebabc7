"""SOCKS5 (RFC 1928, RFC 1929): the client's side of a UDP association, as plain code.

- `dialogue`: what is said on the TCP connection that the association lives as long as
- `datagrams`: the header in front of each datagram

Nothing here waits or knows a socket. TCP connections are python-socks' affair.
"""
