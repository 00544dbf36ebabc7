"""The DHT's protocol and decisions (BEP 5): no waiting, no clock, no sockets.

krpc     bytes to checked messages and back          table    whom we know, in k-buckets
lookup   whom to ask next, and when to stop          answer   what to say to a query
tokens   who may announce                            store    peers announced to us
sources  how much of a stranger's traffic we bear
"""
