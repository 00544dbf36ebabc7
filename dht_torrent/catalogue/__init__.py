"""The torrents this node knows of, to be searched in milliseconds. Everything here blocks, on
purpose.
"""
