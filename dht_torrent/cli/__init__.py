"""The command line.

main     the commands, and the group they belong to      dht      `dhtnode dht`
node     options of a node, and how to reach one         sources  torrents as people give them
view     what people read                                streams  stdout and stderr as they are
"""
