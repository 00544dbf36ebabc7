"""uTP (BEP 29): streams over UDP that give way to everything else, as plain state machines.

Nothing here waits or knows a socket: `table` takes datagrams and the time, and gives datagrams.

- `packets`: headers and extensions as bytes
- `delays`: one-way delays, and what of them is a queue
- `congestion`: how many bytes may be in flight (LEDBAT)
- `mtu`: how large a packet may be
- `sending`: bytes that wait, and packets that were sent
- `loss`: when a packet is lost
- `outbound`, `inbound`: one direction each of a connection
- `connection`: both of them, its beginning and its end
- `table`: all connections of one UDP socket
"""
