"""The way in through a router: asks the default gateway to map our ports, by PCP or NAT-PMP
(`dht_torrent.portmap` has what is said), else by UPnP.

- `service`: which gateway, which ports, what works, and what users see of it
- `upnp`: what is asked of a UPnP gateway, and when
- `miniupnp`: the library that speaks to it, in a thread
"""
