"""The node as a service: HTTP control on a Unix socket or loopback TCP, and its client.

- `run`: a node in the foreground, until a signal; `notify`: what a service manager is told of it;
  `reload`: having it read its configuration again
- `control`: where a node answers, and the files in the state directory that say so
- `server`: the sockets; `answering`: the HTTP server on them (Hypercorn's Trio worker); `app`: what
  it answers (Starlette), `dht_api`: of the DHT, `body`: what a request may hold
- `web_server`, `web_app`: what is answered at `--web`, past `guard`; `web`: the page, whose files
  are in the folder `page`; `rpc`: Transmission's; `places`: which folders one may name there
- `client`: the command line's end, over `http_client`; `presence`: whether a node is there
"""
