"""A network in memory, with latency, loss and partitions."""
