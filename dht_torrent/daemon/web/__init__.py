"""The page that a browser shows of the node, and what it asks of it.

`door` lets its owner in, `assets` are the files of the page, `board` notes what changed, `sights`
puts together what is looked at closely, `events` tells all of that to the pages that are open, and
`routes` says where.
"""
