"""Search without a server: the decisions. Words of titles, and prefix hash trees whose nodes are
items of the DHT (BEP 44) that any node can hold.

- `words`, `titles`: what is compared, and what may be shown; frozen, as all nodes must agree
- `codes`, `label`, `node`, `trie`: where an entry is, how it is stored, and what to read next
- `record`: what a publisher signs; `choice`: which words a title is published under, and which a
  query asks for; `rank`: in which order results are shown
"""
