"""Torrents at work: `torrent` is what users see, the rest is one task or conversation each."""
