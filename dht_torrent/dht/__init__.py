"""The DHT's protocol and decisions (BEP 5): no waiting, no clock, no sockets.

- `krpc`: bytes to checked messages and back; `shortcut`: the usual queries, without parsing
- `table`: the contacts we know, in `buckets`; `ping_queue`: addresses to verify before they may
  enter the table; `saved`: what of it survives a restart
- `lookup`: which node to query next, and when to stop; `paths`: one lookup along several disjoint
  paths
- `answer`: what to respond to a query; `tokens`: which node may announce; `store`: peers announced
  to us; `items`: BEP 44 values, checked and stored; `lifetimes`: how long items survive
- `identity`: our id, and the votes on our IP; `density`: the size of the network, and eclipses;
  `bloom`: counting a swarm (BEP 33)
- `origins`: which addresses count as one place; `rate_limits`: how much traffic of others we bear
"""
