"""`python -m dht_torrent` is `dhtnode`."""

from dht_torrent.cli.main import main

if __name__ == "__main__":
    main()
