// One torrent closely: how it is getting on, its pieces, its swarm, its files and its peers.

import {ago, bytesOf, clean, count, counted, duration, h, icon, percent, put, rate, size, stranger} from './dom.js';
import {api, history, isReadOnly, look, on, rows} from './live.js';
import {act, copy, labelDialog, limitDialog, moveDialog, removeDialog} from './actions.js';
import {pieceMap, speedChart, swarm} from './draw.js';
import {STATES} from './torrents.js';

const FLAGS = {
  D: 'we receive from it', d: 'we want to, and it does not let us', U: 'it receives from us', u: 'it wants to, and we do not let it',
  S: 'it is silent', O: 'optimistic choice', F: 'fast extension', E: 'encrypted', e: 'encrypted handshake',
};
const PRIORITIES = [['high', 'High', 1], ['normal', 'Normal', 0], ['low', 'Low', -1], ['skip', 'Skip', null]];
const ROOM = 300;

export function show(main, id) {
  let facts = {};
  let peers = [];
  const row = () => rows.get(id);
  const chart = speedChart(() => history.of.get(id));
  const map = pieceMap();
  const picture = swarm();

  // --- at the top ----------------------------------------------------------------------------

  const title = h('h1.torrent-name');
  const state = h('span.state');
  const why = h('span.facts');
  const share = h('strong.share-big');
  const bar = h('div.fill');
  const progress = h('div.track.thick', {role: 'progressbar', 'aria-label': 'Progress', 'aria-valuemin': 0, 'aria-valuemax': 100}, bar);
  const pause = h('button.button.primary', {type: 'button', onclick: () => act([id], stopped() ? 'resume' : 'pause')});
  const stopped = () => ['paused', 'queued', 'error'].includes(row()?.state);
  const limit = h('span', 'Limit');
  const tiles = {};
  const tile = (key, name) => h('div.tile', h('dt', name), tiles[key] = h('dd'));
  const actions = h('div.row.wrap.actions', pause,
    h('button.button', {type: 'button', onclick: () => limitDialog([id])}, icon('limit'), limit),
    h('button.button', {type: 'button', onclick: () => act([id], 'announce', {})}, icon('find'), h('span', 'Find peers')),
    h('button.button', {type: 'button', onclick: () => act([id], 'recheck')}, icon('recheck'), h('span', 'Recheck')),
    h('button.button', {type: 'button', onclick: () => labelDialog(id)}, icon('label'), h('span', 'Label')),
    h('button.button', {type: 'button', onclick: () => moveDialog(id, (facts.path ?? '').replace(/\/[^/]*$/, ''))}, icon('folder'), h('span', 'Move')),
    h('button.button', {type: 'button', 'data-looks': '', onclick: () => copy(facts.magnet ?? '', 'Magnet link')}, icon('link'), h('span', 'Copy link')),
    h('button.button.danger', {type: 'button', onclick: () => removeDialog([id], () => { location.hash = '#/'; })}, icon('remove'), h('span', 'Remove')));
  const head = h('section.panel.torrent-head', {'aria-label': 'Torrent'},
    h('a.back', {href: '#/'}, icon('back'), 'All torrents'), title,
    h('div.row.wrap.item-sub', state, why), h('div.row', progress, share),
    h('dl.tiles', tile('down', 'Receiving'), tile('up', 'Sending'), tile('eta', 'Left'), tile('size', 'Size'), tile('ratio', 'Ratio'), tile('peers', 'Peers'), tile('added', 'Added')),
    actions);

  // --- pictures ------------------------------------------------------------------------------

  const hover = h('p.faint.small.hover', 'Each cell is a piece: the brighter, the more peers have it.');
  map.element.addEventListener('pointermove', (event) => {
    const text = map.at(event.offsetX, event.offsetY);
    if (text) put(hover, text);
  });
  const pieceFacts = h('span.faint');
  const legend = h('p.legend', ...[['down', 'here'], ['busy', 'on its way'], ['cell', 'missing'], ['line', 'nobody has it']].map(([name, text]) => h('span', h('i', {class: `dot ${name}`}), text)));
  const swarmFacts = h('span.faint');
  const pictures = h('div.columns',
    h('section.panel', {'aria-labelledby': 'pieces-title'}, h('div.panel-head', h('h2', {id: 'pieces-title'}, 'Pieces'), pieceFacts), map.element, legend, hover),
    h('section.panel', {'aria-labelledby': 'swarm-title'}, h('div.panel-head', h('h2', {id: 'swarm-title'}, 'Swarm'), swarmFacts), picture.element,
      h('p.legend', h('span', h('i.dot.busy'), 'us'), h('span', h('i.dot.down'), 'received'), h('span', h('i.dot.up'), 'sent'), h('span.faint', 'the nearer, the more they have'))),
    h('section.panel.wide', {'aria-labelledby': 'speed-title'}, h('div.panel-head', h('h2', {id: 'speed-title'}, 'Speed'), h('span.faint', 'five minutes')), chart.element));

  // --- files ---------------------------------------------------------------------------------

  const fileRows = new Map();
  const fileBody = h('tbody');
  const fileFacts = h('span.faint');
  const more = h('button.button', {type: 'button', hidden: true, onclick: () => { room += 2000; tellFiles(); }}, 'Show more');
  const files = h('section.panel', {'aria-labelledby': 'files-title'}, h('div.panel-head', h('h2', {id: 'files-title'}, 'Files'), fileFacts),
    h('div.scrolls', {role: 'region', 'aria-label': 'Table of files', tabindex: 0}, h('table', h('thead', h('tr', ['Name', 'Size', 'Progress', 'Priority'].map((name) => h('th', {scope: 'col'}, name)))), fileBody)), more);
  let known = [];
  let room = ROOM;

  async function prioritise(index, choice) {
    const name = PRIORITIES.find(([value]) => value === choice)[0];
    const body = name === 'skip' ? {skip: String(index)} : {want: String(index), [name]: String(index)};
    await api('POST', `torrents/${id}/files`, body).catch(() => {});
  }

  function tellFiles() {
    put(fileFacts, facts.files ? counted(facts.files, 'file') : '');
    for (const [index, path, bytes, done, wanted, priority] of known.slice(0, room)) {
      let one = fileRows.get(index);
      if (!one) {
        const parts = path.split('/');
        const select = h('select', {'aria-label': `Priority of ${clean(path)}`, onchange: () => prioritise(index, select.value)},
          PRIORITIES.map(([value, text]) => h('option', {value}, text)));
        select.disabled = isReadOnly();
        one = {select, fill: h('div.fill'), share: h('span.small')};
        one.element = h('tr', h('td.file', parts.length > 1 && h('span.faint.folder', stranger(`${parts.slice(0, -1).join('/')}/`)), stranger(parts.at(-1))),
          h('td.number', size(bytes)), h('td.progress', h('div.track', one.fill), one.share), h('td', select));
        fileRows.set(index, one);
        fileBody.append(one.element);
      }
      one.element.classList.toggle('unwanted', !wanted);
      one.fill.style.transform = `scaleX(${done})`;
      put(one.share, percent(done));
      const value = wanted ? PRIORITIES.find(([, , number]) => number === priority)[0] : 'skip';
      if (document.activeElement !== one.select) one.select.value = value;
    }
    more.hidden = known.length <= room;
  }

  // --- peers ---------------------------------------------------------------------------------

  const peerRows = new Map();
  const peerBody = h('tbody');
  const peerFacts = h('span.faint');
  const peerTable = h('section.panel', {'aria-labelledby': 'peers-title'}, h('div.panel-head', h('h2', {id: 'peers-title'}, 'Peers'), peerFacts),
    h('div.scrolls', {role: 'region', 'aria-label': 'Table of peers', tabindex: 0}, h('table', h('thead', h('tr', ['Address', 'Client', 'Has', 'Receiving', 'Sending', 'Flags', 'Over', 'Encryption', 'Found by'].map((name) => h('th', {scope: 'col'}, name)))), peerBody)));

  function tellPeers() {
    put(peerFacts, counted(peers.length, 'connection'));
    const there = new Set();
    for (const peer of peers) {
      const key = peer.address;
      there.add(key);
      let cells = peerRows.get(key);
      if (!cells) {
        cells = Array.from({length: 9}, () => h('td'));
        cells.element = h('tr', cells);
        cells[0].append(h('code', peer.address));
        peerRows.set(key, cells);
        peerBody.append(cells.element);
      }
      const flags = [...peer.flags].map((flag) => FLAGS[flag] ?? flag).join(', ');
      [null, clean(peer.client || '?'), percent(peer.progress), peer.down ? rate(peer.down) : '', peer.up ? rate(peer.up) : '', peer.flags,
        peer.transport === 'utp' ? 'µTP' : 'TCP', peer.encryption ?? 'none', `${peer.source}${peer.incoming && peer.source !== 'incoming' ? ', incoming' : ''}`]
        .forEach((text, at) => { if (text !== null) put(cells[at], text); });
      cells[5].title = flags;
      cells[5].setAttribute('aria-label', flags);
    }
    for (const [key, cells] of peerRows) {
      if (!there.has(key)) {
        cells.element.remove();
        peerRows.delete(key);
      }
    }
  }

  main.append(head, pictures, files, peerTable);

  // --- what changes --------------------------------------------------------------------------

  let name = null;
  function tellRow() {
    const one = row();
    if (!one) {
      if (rows.size || name !== null) {
        put(title, name === null ? 'No such torrent' : clean(name));
        put(state, name === null ? '' : 'Removed');
        actions.hidden = true;
      }
      return;
    }
    if (name !== one.name) {
      name = one.name;
      title.replaceChildren(stranger(name));
      document.title = `${clean(name)} · dhtnode`;
    }
    head.dataset.state = one.error ? 'error' : one.why && one.state !== 'seeding' ? 'stuck' : one.state;
    put(state, STATES[one.state] ?? one.state);
    put(why, clean(one.error ?? one.warning ?? one.why ?? ''));
    put(share, one.state === 'metadata' ? '' : percent(one.progress));
    bar.style.transform = `scaleX(${one.progress})`;
    progress.setAttribute('aria-valuenow', Math.floor(one.progress * 100));
    pause.replaceChildren(icon(stopped() ? 'play' : 'pause'), h('span', stopped() ? 'Resume' : 'Pause'));
    put(tiles.down, rate(one.down));
    put(tiles.up, rate(one.up));
    const limits = [one.limit_down && `↓ ${rate(one.limit_down)}`, one.limit_up && `↑ ${rate(one.limit_up)}`].filter(Boolean);
    put(limit, limits.length ? `Limited to ${limits.join(', ')}` : 'Limit');
    put(tiles.eta, one.progress >= 1 ? 'complete' : duration(one.eta));
    put(tiles.size, one.size ? size(one.size) : 'not known yet');
    put(tiles.ratio, one.ratio.toFixed(2));
    put(tiles.peers, String(one.peers));
    put(tiles.added, ago(one.added_at));
  }

  const offs = [
    on('change', tellRow),
    on('second', () => chart.draw()),
    on('torrent', (told) => {
      if (told.id !== id) return;
      if (told.facts) facts = told.facts;
      if (told.files) { known = told.files; tellFiles(); }
      if (told.peers) {
        peers = told.peers;
        tellPeers();
        picture.show(peers, row()?.progress ?? 0);
        const seeds = peers.filter((peer) => peer.progress >= 1).length;
        put(swarmFacts, `${counted(seeds, 'seed')}, ${counted(peers.length - seeds, 'leech')}`.replace('leechs', 'leeches'));
      }
      if (told.pieces) {
        const {count: number, width, length} = told.pieces;
        const availability = bytesOf(told.pieces.availability);
        map.show({count: number, width, states: bytesOf(told.pieces.states), share: bytesOf(told.pieces.share), availability});
        const copies = availability.length ? Math.min(...availability) : 0;
        put(pieceFacts, number ? `${count(number)} of ${size(length)}, ${copies} full ${copies === 1 ? 'copy' : 'copies'} at peers` : '');
      }
    }),
  ];
  tellRow();
  look({torrent: id});
  return {
    title: row() ? clean(row().name) : 'Torrent',
    redraw() { for (const one of [chart, map, picture]) one.draw(); },
    leave() { for (const off of offs) off(); },
  };
}
