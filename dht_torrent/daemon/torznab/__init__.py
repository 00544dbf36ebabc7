"""Searches by the programs that ask indexers: Prowlarr, Sonarr, Radarr. Torznab is RSS with a few
attributes; the index that is asked here is no server's.

`asking` understands a request, `categories` guesses from a name what a torrent is, `feed` writes
the answers, and `api` answers.
"""
