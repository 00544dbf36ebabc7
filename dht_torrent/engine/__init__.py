"""The engine: the only place that waits. Tasks, sockets, threads and time live here (Trio), and
each task asks a plain decider of the floor below what to do next.

Between two `await`s everything happens at once, so deciders need no locks; they are given the time
and the dice, and return what is to be done. The engine reaches the outside through a network
(`engine.net.protocols`) and a storage (`storage.protocol`), which tests and the lab replace.

The task tree
-------------
Each line is a task, owned by the one above it; cancelling an owner ends all below it. A service
runs until it is cancelled: there is no start and stop.

    open_node                       engine.opening: one nursery; a bug that reaches it ends the node
    |- uTP, for each family         engine.net.utp: receives for the DHT, too, and keeps the time of
    |                               all connections; none has a task of its own
    |- a DHT node for each family   engine.dht.node
    |  |- receiving                 takes datagrams and answers them, waiting for nothing else
    |  |- timeouts                  engine.dht.transactions
    |  |- maintenance, refresh      engine.dht.maintenance
    |  |- bootstrap                 engine.dht.bootstrap, also the change of id (BEP 42)
    |  |- announcing again          engine.dht.announces
    |  '- putting items again       engine.dht.items
    |- listening, for each family   a task for each incoming handshake, until its torrent is known;
    |                               with TLS on ports of their own (engine.tls_listening)
    |- the proxy, if there is one   engine.net.proxy: a task for each UDP association with it
    |                               (engine.net.relayed)
    |- the IP filter, if any        engine.filtering: reads its file again when that has changed
    |- local discovery              engine.lsd: announces, and a task for each interface that hears
    |- links                        engine.following.service: a task for each that is followed or
    |  |                            published (BEP 46)
    |  |- looking for new versions  engine.following.watching, which also keeps the item alive
    |  '- fetching the newest       engine.following.follower
    |- saving the DHT's contacts, closing idle files, trimming buffers, rate limits
    '- a torrent, for each          engine.torrent.supervisor: one session (engine.torrent.session)
       |                            after another; at rest, only the record is kept
       |- connections               engine.torrent.connections: dials, and takes in what arrives
       |  '- a peer, for each       engine.torrent.reader
       |     '- its writer        engine.torrent.writer; both run by engine.torrent.peer_loops
       |- discovery                 engine.torrent.discovery: lookups and announces in the DHT
       |- extensions                engine.torrent.extensions: those that do something regularly
       |- the resume record         engine.torrent.record: saved when something has changed
       |- the exchange              engine.torrent.swarm, once the metadata is known
       |  |- saving pieces          hashes and writes them in worker threads
       |  '- choking, haves, requests that are late
       |- reusing                   engine.torrent.reusing: copies what this disk has already
       '- a look at the files       whether somebody else changed them

A DHT lookup runs in the task that asks for it, with a nursery for its queries. The control server
(`daemon.server`) runs beside the node, in a nursery of `daemon.run`.

How things flow
---------------
*A datagram.* `engine.net.sockets` drains the socket, `engine.net.utp` takes what is uTP's of what
it got, and hands the rest to `engine.dht.node`. A query goes to `engine.dht.responder`, which sheds
floods before it parses, and on to `dht.answer`; the response leaves in the same turn. A response is
matched in `engine.dht.transactions` by id and address, and wakes the task that asked. Either way
`dht.table` learns that the contact is alive.

*A block.* `engine.torrent.reader` receives into a buffer that all connections share;
`peer.connection` turns bytes into events. The stage of the torrent (`engine.torrent.stages`) takes
the batch: `engine.torrent.swarm` gives blocks to `torrent.picker`, which copies each once into its
piece. `engine.torrent.downloads` then has the picker choose what to request next, in one message
for the whole batch. A complete piece goes to `engine.torrent.disk`, is hashed and written in a
thread, and then announced to all peers. One whose hash is wrong goes to `torrent.smart_ban` and is
fetched again.

*An upload.* `engine.torrent.uploads` judges a request and queues it at the peer.
`engine.torrent.writer` takes a batch within the rate limit, reads it at once if the system has it
in memory and in a thread if not, and sends headers and blocks together. A choke empties the queue.

*A magnet link.* `given` and `magnet` parse it, `engine.node` adds a torrent in the stage
FetchingInfo. Discovery and the link's own peers feed `torrent.candidates`; connected peers are
asked for the info dict (`engine.torrent.metadata`, `torrent.metadata`), which is believed once its
SHA-1 is right. `engine.torrent.content` then looks at what is on disk (the stage Checking), and the
exchange begins (Active) with the peers that are connected already.

*A piece that is here already.* Before the exchange begins `engine.torrent.reusing` looks through
the other torrents of the node and what the user named, for files that `torrent.reuse` takes for
the same. The picker holds what they may have, and asks peers for the rest. Two tasks read, verify
and write the held pieces in threads; what was not there is let go, and is fetched.

*A uTP connection.* `engine.torrent.racing` dials a peer over TCP and uTP, as `torrent.ways` plans
it. `engine.net.utp` brings datagrams and the time to `utp.table`, sends what that wants sent, and
wakes those who wait; what comes of it is a stream like TCP's, and one that came in goes to
`engine.incoming` as any other.

*An encrypted connection.* `engine.torrent.dialling` tries the ways to dial that the policy allows,
`engine.incoming` tells a plain handshake from an MSE one by its first 20 bytes. The handshake is
`peer.mse`; `engine.net.encrypted` runs it, and wraps the stream in one that torrents cannot tell
from others. RC4 works in place, in the buffer that is received into and in the one that is sent.

*An SSL torrent.* A peer's connection becomes a stream in TLS (`engine.net.tls`) before anything of
BitTorrent is said on it: see `engine.incoming` and `engine.torrent.dialling`. Who the other side
is can be verified only with the root certificate that the metadata holds: a session that began
without ends when the metadata has come, and the next one verifies everybody.

*A version of a link.* `engine.following.watching` finds an item that `dht.versions` believes, and
`engine.following.follower` writes it down, has the node fetch the torrent into a folder of its own,
with older versions as sources, and when it is complete lets `engine.following.place` replace one
symbolic link. At the other end `engine.following.publication` shares what lies at a path, and
`engine.following.writing` reads the DHT before it signs.

*A control command.* `cli.main` finds the node through `daemon.control` and asks `daemon.client`,
which speaks HTTP over the node's Unix socket. `daemon.app` calls one method of the node and
answers in JSON; there is no logic on the way, so that scripts, tests and commands see the same.
"""
