"""What is tested on some systems only."""

from dht_torrent.engine.batches import ARE_POSSIBLE

collect_ignore = [] if ARE_POSSIBLE else ["test_batches.py"]
