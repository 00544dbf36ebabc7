"""Search without a server, at work: the index on DHT items, publishing into it and asking it."""
