"""The node as a service: HTTP control on a Unix socket or loopback TCP, and its client.

control  where a node answers, and the files in the state directory that say so
app      what it answers (Starlette)
server   the sockets (Hypercorn's Trio worker)
client   the command line's end (httpx)
run      a node in the foreground, until a signal
"""
