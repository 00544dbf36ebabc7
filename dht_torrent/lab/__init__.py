"""The lab: whole networks of nodes in one process, on virtual time, the same for the same seed.

No threads here: while one works, the virtual clock runs away.
"""
