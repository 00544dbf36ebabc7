"""Search without a server: the decisions. Words of titles, and prefix hash trees whose nodes are
items of the DHT (BEP 44) that any node can hold.
"""
