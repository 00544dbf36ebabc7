// The DHT: where we are, whom we know, and lookups on their way.

import {clean, count, counted, h, icon, put, s} from './dom.js';
import {api, isReadOnly, look, on} from './live.js';
import {idRing, shared, walkChart} from './draw.js';

const PURPOSES = {find_node: 'nodes', get_peers: 'peers', get: 'an item'};

export function show(main) {
  const families = {};
  let family = 'ipv4';
  let chosen = null;
  let wanted = null;
  const ring = idRing();
  const chart = walkChart();
  const tiles = {};
  const tile = (key, name) => h('div.tile', h('dt', name), tiles[key] = h('dd'));
  const tabs = h('div.row.chips', {role: 'group', 'aria-label': 'Address family'});
  const walks = h('ul.walks');
  const tree = h('div.tree');
  const treeFacts = h('span.faint');
  const walkFacts = h('p.faint.small', {role: 'status'});
  const target = h('input', {type: 'text', 'aria-label': 'Target: 40 hex digits, or nothing for a random one', placeholder: '40 hex digits, or a random one', spellcheck: 'false', autocomplete: 'off'});
  const form = h('form.row', {onsubmit: async (event) => {
    event.preventDefault();
    const random = Array.from(crypto.getRandomValues(new Uint8Array(20)), (byte) => byte.toString(16).padStart(2, '0')).join('');
    wanted = (target.value.trim() || random).toLowerCase();
    await api('POST', 'dht/lookup', {target: wanted}).catch(() => {});
  }}, target, h('button.button.primary', {type: 'submit'}, icon('find'), h('span', 'Look up')));
  const body = h('tbody');
  const contactFacts = h('span.faint');

  main.append(h('h1.hidden', 'The DHT'),
    h('section.panel', {'aria-label': 'The network'}, h('dl.tiles', tile('size', 'Nodes in the network, about'), tile('good', 'Good contacts'), tile('doubtful', 'Doubtful'), tile('id', 'Our id'), tile('address', 'Seen at'), tile('queries', 'Queries in, out'), tile('stored', 'Torrents, peers, items held'))),
    tabs,
    h('div.columns',
      h('section.panel', {'aria-labelledby': 'ring-title'}, h('div.panel-head', h('h2', {id: 'ring-title'}, 'Where we are'), h('span.faint', 'all ids, as a circle')), ring.element,
        h('p.legend', h('span', h('i.dot.busy'), 'us, and a lookup’s way'), h('span', h('i.dot.down'), 'good'), h('span', h('i.dot.doubt'), 'doubtful'), h('span', h('i.dot.up'), 'target'))),
      h('section.panel', {'aria-labelledby': 'walk-title'}, h('div.panel-head', h('h2', {id: 'walk-title'}, 'Lookups'), h('span.faint', 'hop by hop towards the target')), chart.element, walkFacts, walks, isReadOnly() ? '' : form),
      h('section.panel.wide', {'aria-labelledby': 'tree-title'}, h('div.panel-head', h('h2', {id: 'tree-title'}, 'Routing table'), treeFacts), tree)),
    h('section.panel', {'aria-labelledby': 'contacts-title'}, h('div.panel-head', h('h2', {id: 'contacts-title'}, 'Contacts'), contactFacts),
      h('div.scrolls', {role: 'region', 'aria-label': 'Table of contacts', tabindex: 0}, h('table', h('thead', h('tr', ['Id', 'Address', 'Bits shared with us', 'State', 'Heard from', 'Id fits its address'].map((name) => h('th', {scope: 'col'}, name)))), body))));

  function tell() {
    const one = families[family];
    if (!one) return;
    put(tiles.size, one.network_size ? count(Number(one.network_size.toPrecision(3))) : 'not known yet');
    put(tiles.good, String(one.good));
    put(tiles.doubtful, String(one.doubtful + one.bad));
    put(tiles.id, `${one.id.slice(0, 8)}…`);
    tiles.id.title = one.id;
    put(tiles.address, clean(one.external_ip ?? one.address.replace(/:\d+$/, '')));
    put(tiles.queries, `${count(one.queries_in)}, ${count(one.queries_out)}`);
    put(tiles.stored, one.stored.map(count).join(', '));
    const asked = one.lookups?.find((walking) => walking.target === wanted && walking.steps.length > 0);
    if (asked) [chosen, wanted] = [asked.number, null];
    const walk = one.lookups?.find((walking) => walking.number === chosen) ?? one.lookups?.find((walking) => walking.steps.length > 0);
    ring.show(one.id, one.contacts ?? [], walk ?? null);
    chart.show(walk ?? null);
    put(walkFacts, walk ? `For ${PURPOSES[walk.purpose] ?? clean(walk.purpose)} near ${walk.target.slice(0, 8)}: ${walk.asked} queried, ${walk.replies} responded, ${counted(walk.hops, 'hop')}, ${walk.seconds.toFixed(2)} s${walk.running ? ' so far' : ''}` : 'No lookup has begun since this page was opened.');
    tellWalks(one, walk);
  }

  function tellWalks(one, walk) {
    walks.replaceChildren(...(one.lookups ?? []).slice(0, 6).map((walking) => h('li',
      h('button.walk-button', {type: 'button', 'aria-pressed': walking === walk ? 'true' : 'false', onclick: () => { chosen = walking.number; tell(); }},
        h('code', walking.target.slice(0, 8)), h('span', PURPOSES[walking.purpose] ?? clean(walking.purpose)), h('span.faint', walking.running ? 'walking …' : `${counted(walking.hops, 'hop')} · ${walking.replies}/${walking.asked}`)))));
  }

  /** Where the way to our own id branches off: each branch is a bucket, and each dot a contact. */
  function tellTree() {
    const one = families[family];
    const depths = new Map();
    for (const contact of one.contacts) {
      const bits = shared(contact[0], one.id);
      if (!depths.has(bits)) depths.set(bits, []);
      depths.get(bits).push(contact);
    }
    const deepest = Math.max(0, ...depths.keys());
    const levels = Math.min(deepest, 40);
    put(treeFacts, `${counted(one.contacts.length, 'contact')} in ${counted(one.buckets, 'bucket')}`);
    const [step, top, left] = [26, 16, 20];
    const width = Math.max(640, left + 9 * 22 + 26 * levels + 60);
    const height = top * 2 + (levels + 1) * step;
    const nodes = [];
    for (let depth = 0; depth <= levels; depth += 1) {
      const [x, y] = [left + depth * 22, top + depth * step];
      const contacts = (depths.get(depth) ?? []).sort((a, b) => b[2] - a[2]);
      const bit = parseInt(one.id[Math.floor(depth / 4)], 16) >> (3 - depth % 4) & 1;
      nodes.push(s('path', {class: 'twig', d: `M${x} ${y}H${x + 26}`}));
      if (depth < levels) nodes.push(s('path', {class: 'trunk', d: `M${x} ${y}c0 ${step / 2} 22 ${step / 2} 22 ${step}`}));
      nodes.push(s('text', {class: 'bit', x: x + 12, y: y - 4}, String(1 - bit)));
      for (let slot = 0; slot < Math.max(8, Math.min(32, contacts.length)); slot += 1) {
        const contact = contacts[slot];
        const dot = s('circle', {cx: x + 36 + slot * 15, cy: y, r: contact ? 5.5 : 3, class: contact ? ['bad', 'doubt', 'good'][contact[2]] : 'slot'});
        if (contact) dot.append(s('title', null, `${contact[0].slice(0, 10)} ${clean(contact[1])}`));
        nodes.push(dot);
      }
    }
    nodes.push(s('circle', {class: 'own', cx: left + levels * 22, cy: top + levels * step, r: 7}));
    nodes.push(s('text', {class: 'own-name', x: left + levels * 22 - 14, y: top + levels * step + 4, 'text-anchor': 'end'}, 'us'));
    const picture = s('svg', {viewBox: `0 0 ${width} ${height}`, width, height, role: 'img', 'aria-label': `Routing table: ${counted(one.contacts.length, 'contact')}, the deepest shares ${counted(deepest, 'bit')} with us`}, nodes);
    tree.replaceChildren(h('div.scrolls', {role: 'region', 'aria-label': 'Picture of the routing table', tabindex: 0}, picture));
  }

  function tellContacts() {
    const {contacts, id} = families[family];
    put(contactFacts, `${counted(contacts.filter((one) => one[2] === 2).length, 'good one')}`);
    body.replaceChildren(...[...contacts].reverse().slice(0, 200).map(([other, address, quality, seconds, fits]) => h('tr',
      h('td', h('code', `${other.slice(0, 16)}…`)), h('td', h('code', clean(address))), h('td.number', String(shared(other, id))),
      h('td', h('span', {class: `badge ${['blocked', 'unverified', 'verified'][quality]}`}, ['Silent', 'Doubtful', 'Good'][quality])),
      h('td.number', `${count(seconds)} s ago`), h('td', fits ? 'yes' : 'no'))));
  }

  const off = on('dht', (told) => {
    const isNew = !(told.family in families);
    families[told.family] = {...families[told.family], ...told};
    if (isNew) {
      if (!(family in families) || (family === 'ipv4' && told.family === 'ipv6' && !families.ipv4?.contacts?.length && told.contacts?.length)) family = told.family;
      tabs.hidden = Object.keys(families).length < 2;
      tabs.replaceChildren(...Object.keys(families).sort().map((name) => h('button.chip', {type: 'button', 'data-family': name, onclick: () => { family = name; chosen = null; press(); tell(); tellTree(); tellContacts(); }}, name === 'ipv4' ? 'IPv4' : 'IPv6')));
      press();
    }
    if (told.family !== family) return;
    tell();
    if (told.contacts || told.id || isNew) { tellTree(); tellContacts(); }
  });
  function press() {
    for (const tab of tabs.children) tab.setAttribute('aria-pressed', tab.dataset.family === family);
  }
  tabs.hidden = true;
  look({dht: true});
  return {title: 'DHT', redraw() { ring.draw(); chart.draw(); }, leave: off};
}
