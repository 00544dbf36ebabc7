// The role `js` of dht.py: bittorrent-dht behind the same words on stdin and stdout.
//
//     node dht_js.mjs PACKAGE_FOLDER '{"json": "options"}'
import crypto from 'node:crypto'
import path from 'node:path'
import readline from 'node:readline'
import { pathToFileURL } from 'node:url'

const folder = path.join(process.argv[2], 'node_modules', 'bittorrent-dht')
const { default: DHT } = await import(pathToFileURL(path.join(folder, 'index.js')).href)
const options = JSON.parse(process.argv[3])

const say = (line) => process.stdout.write(JSON.stringify(line) + '\n')
const listen = (dht) => new Promise((resolve) => dht.listen(0, '127.0.0.1', resolve))
const ready = (dht) => new Promise((resolve) => (dht.ready ? resolve() : dht.once('ready', resolve)))
const lookup = (dht, hash) => new Promise((resolve) => dht.lookup(hash, () => resolve()))

const began = performance.now()
const cpu = process.cpuUsage()
const usage = (event, more = {}) => {
  const used = process.cpuUsage(cpu)
  const memory = process.memoryUsage().rss
  say({
    event,
    seconds: (performance.now() - began) / 1e3,
    cpu: (used.user + used.system) / 1e6,
    now: memory,
    anonymous: memory,
    ...more
  })
}

async function serve () {
  const many = 1e6 // limits lifted
  const dht = new DHT({ bootstrap: options.bootstrap, host: '127.0.0.1', maxTables: many, maxPeers: many })
  await listen(dht)
  await ready(dht)
  for (let i = 0; i < options.warm; i++) await lookup(dht, crypto.randomBytes(20))
  say({ event: 'ready', port: dht.address().port, contacts: dht.toJSON().nodes.length })
  return () => dht.destroy()
}

// Starts options.nodes nodes, each knowing three of those before it; then some announce and others look.
async function crowd () {
  const nodes = []
  const memory = process.memoryUsage().rss
  const start = performance.now()
  const used = process.cpuUsage()
  const dice = (most) => crypto.randomInt(most)
  while (nodes.length < options.nodes) {
    const count = Math.min(20, options.nodes - nodes.length, Math.max(1, nodes.length))
    const fresh = Array.from({ length: count }, () => {
      const doors = nodes.length ? [0, 1, 2].map(() => `127.0.0.1:${nodes[dice(nodes.length)].address().port}`) : false
      return new DHT({ bootstrap: doors })
    })
    await Promise.all(fresh.map(async (dht) => { await listen(dht); await ready(dht) }))
    nodes.push(...fresh)
  }
  const started = (performance.now() - start) / 1e3
  const spent = process.cpuUsage(used)
  const bytes = process.memoryUsage().rss - memory
  const first = []
  let found = 0
  for (let i = 0; i < options.lookups; i++) {
    const hash = crypto.randomBytes(20)
    const announcer = nodes[dice(nodes.length)]
    const searcher = nodes[dice(nodes.length)]
    await new Promise((resolve) => announcer.announce(hash, 1000 + i, () => resolve()))
    const asked = performance.now()
    const took = await new Promise((resolve) => {
      const hear = (peer, about) => { if (hash.equals(about)) resolve(performance.now() - asked) }
      searcher.on('peer', hear)
      searcher.lookup(hash, () => { searcher.off('peer', hear); resolve(null) })
    })
    if (took !== null) { found++; first.push(took / 1e3) }
  }
  say({ event: 'ready', nodes: nodes.length, started, start_cpu: (spent.user + spent.system) / 1e6, bytes, found, first })
  return () => nodes.forEach((dht) => dht.destroy())
}

const end = await (options.nodes ? crowd() : serve())
for await (const line of readline.createInterface({ input: process.stdin })) {
  if (line.trim() === '') usage('usage')
}
usage('stopped')
end()
process.exit(0)
