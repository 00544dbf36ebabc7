"""How a gateway is asked to let the world in: PCP (RFC 6887) and NAT-PMP (RFC 6886), whose messages
are in `pcp` and `natpmp`, and what is said to one gateway when in `client`.

The rule: a gateway may lie, answer late, answer for another, forget all it knew or say nothing, and
costs us a datagram now and then at most.
"""
