"""The DHT node on the network: `node` owns it, `dual_stack` is how torrents and users reach it."""
