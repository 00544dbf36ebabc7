// One torrent closely: how it is getting on, its pieces, its swarm, its files and its peers.

import {ago, bytesOf, clean, count, counted, duration, h, icon, iconButton, percent, put, rate, size, stranger} from './dom.js';
import {api, history, isReadOnly, look, on, rows} from './live.js';
import {act, copy, isStopped, labelDialog, limitDialog, limitText, moveDialog, removeDialog, renameDialog, seedingText, torrentMenu} from './actions.js';
import {pieceMap, speedChart, swarm} from './draw.js';
import {STATES, isStuck} from './torrents.js';

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
  const help = h('button.link', {type: 'button', hidden: true, onclick: () => act([id], 'announce', {})}, 'Find peers now');
  const share = h('strong.share-big');
  const bar = h('div.fill');
  const progress = h('div.track.thick', {role: 'progressbar', 'aria-label': 'Progress', 'aria-valuemin': 0, 'aria-valuemax': 100}, bar);
  const pause = h('button.button.primary', {type: 'button', onclick: () => act([id], stopped() ? 'resume' : 'pause')});
  const stopped = () => isStopped(row());
  const gone = () => { location.hash = '#/'; };
  const limit = h('span', 'Limit');
  const tiles = {};
  const tile = (key, name) => h('div.tile', h('dt', name), tiles[key] = h('dd'));
  const actions = h('div.row.wrap.actions', pause,
    h('button.button', {type: 'button', onclick: () => limitDialog([id])}, icon('limit'), limit),
    h('button.button', {type: 'button', onclick: () => labelDialog([id])}, icon('label'), h('span', 'Label')),
    h('button.button', {type: 'button', onclick: () => moveDialog([id], row()?.folder)}, icon('folder'), h('span', 'Move')),
    h('button.button', {type: 'button', 'data-looks': '', onclick: () => copy(facts.magnet ?? '', 'Magnet link')}, icon('link'), h('span', 'Copy link')),
    h('button.button', {type: 'button', 'data-looks': '', 'aria-haspopup': 'menu', onclick: ({currentTarget}) => torrentMenu(currentTarget, [id], gone, known.some((file) => file[8]))}, icon('more'), h('span', 'More')),
    h('button.button.danger', {type: 'button', onclick: () => removeDialog([id], gone)}, icon('remove'), h('span', 'Remove')));
  const head = h('section.panel.torrent-head', {'aria-label': 'Torrent'},
    h('a.back', {href: '#/'}, icon('back'), 'All torrents'), title,
    h('div.row.wrap.item-sub', state, why, help), h('div.row', progress, share),
    h('dl.tiles', tile('down', 'Receiving'), tile('up', 'Sending'), tile('eta', 'Left'), tile('size', 'Size'), tile('ratio', 'Ratio'), tile('peers', 'Peers'), tile('queue', 'In the queue')),
    actions);

  // --- pictures ------------------------------------------------------------------------------

  const hover = h('p.faint.small.hover', 'Each cell is a piece: the brighter, the more peers have it.');
  map.element.addEventListener('pointermove', (event) => {
    const text = map.at(event.offsetX, event.offsetY);
    if (text) put(hover, text);
  });
  const pieceFacts = h('span.faint');
  const unknown = h('p.faint', 'What it consists of is not known yet: that comes from the first peer that is found.');
  const legend = h('p.legend', ...[['down', 'here'], ['busy', 'on its way'], ['cell', 'missing'], ['line', 'nobody has it']].map(([name, text]) => h('span', h('i', {class: `dot ${name}`}), text)));
  const swarmFacts = h('span.faint');
  const pictures = h('div.columns',
    h('section.panel', {'aria-labelledby': 'pieces-title'}, h('div.panel-head', h('h2', {id: 'pieces-title'}, 'Pieces'), pieceFacts), unknown, map.element, legend, hover),
    h('section.panel', {'aria-labelledby': 'swarm-title'}, h('div.panel-head', h('h2', {id: 'swarm-title'}, 'Swarm'), swarmFacts), picture.element,
      h('p.legend', h('span', h('i.dot.busy'), 'us'), h('span', h('i.dot.down'), 'received'), h('span', h('i.dot.up'), 'sent'), h('span.faint', 'the nearer, the more they have'))),
    h('section.panel.wide', {'aria-labelledby': 'speed-title'}, h('div.panel-head', h('h2', {id: 'speed-title'}, 'Speed'), h('span.faint', 'five minutes')), chart.element));

  // --- files ---------------------------------------------------------------------------------

  const fileRows = new Map();
  const fileBody = h('tbody');
  const fileFacts = h('span.faint');
  const more = h('button.button', {type: 'button', hidden: true, onclick: () => { room += 2000; tellFiles(); }}, 'Show more');
  const picked = new Set();
  const every = h('input', {type: 'checkbox', 'aria-label': 'Select all files', onchange: () => {
    picked.clear();
    if (every.checked) for (const [index] of known) picked.add(index);
    tellFiles();
  }});
  const about = h('span.faint.small');
  const several = PRIORITIES.map(([value, text]) => h('button.button.slim', {type: 'button', onclick: () => prioritise([...picked], value)}, text));
  const toolbar = h('div.row.wrap.file-tools', {role: 'toolbar', 'aria-label': 'Priority of the selected files'}, about, several);
  const files = h('section.panel.files', {'aria-labelledby': 'files-title'}, h('div.panel-head', h('h2', {id: 'files-title'}, 'Files'), fileFacts), toolbar,
    h('div.scrolls', {role: 'region', 'aria-label': 'Table of files', tabindex: 0}, h('table', h('thead', h('tr', h('td.narrow', every), ['Name', 'Size', 'Progress', 'Priority'].map((name) => h('th', {scope: 'col'}, name)), h('td'))), fileBody)), more);
  let known = [];
  let room = ROOM;
  let last = null;

  async function prioritise(indices, choice) {
    if (!indices.length) return;
    const ranges = [];
    for (const index of indices.toSorted((a, b) => a - b)) {
      if (index === ranges.at(-1)?.[1] + 1) ranges.at(-1)[1] = index;
      else ranges.push([index, index]);
    }
    const text = ranges.map(([from, to]) => from === to ? from : `${from}-${to}`).join(',');
    await api('POST', `torrents/${id}/files`, choice === 'skip' ? {skip: text} : {want: text, [choice]: text}).catch(() => {});
  }

  /** With `range` also those between it and the one before. */
  function pick(index, on, range) {
    const shown = known.map(([one]) => one);
    const [from, to] = [shown.indexOf(last), shown.indexOf(index)].toSorted((a, b) => a - b);
    for (const one of range && from >= 0 ? shown.slice(from, to + 1) : [index]) {
      if (on) picked.add(one);
      else picked.delete(one);
    }
    last = index;
    tellFiles();
  }

  function makeFile(index, path, bytes, played) {
    const parts = path.split('/');
    const select = h('select', {'aria-label': `Priority of ${clean(path)}`, onchange: () => prioritise([index], select.value)},
      PRIORITIES.map(([value, text]) => h('option', {value}, text)));
    select.disabled = isReadOnly();
    const box = h('input', {type: 'checkbox', 'aria-label': `Select ${clean(path)}`, onclick: ({shiftKey}) => pick(index, box.checked, shiftKey)});
    const one = {select, box, path, fill: h('div.fill'), share: h('span.small')};
    const inside = [parts.length > 1 && h('span.faint.folder', stranger(`${parts.slice(0, -1).join('/')}/`)), stranger(parts.at(-1))];
    const link = `/stream/${id}/${index}`;
    one.element = h('tr', h('td.narrow', box), h('td.file', inside), h('td.number', size(bytes)), h('td.progress', h('div.track', one.fill), one.share), h('td', select),
      h('td.file-actions', h('div.row',
        played && h('a.icon-button', {href: link, target: '_blank', 'aria-label': `Play ${clean(path)}`, title: 'Play'}, icon('play')),
        h('a.icon-button', {href: link, download: clean(parts.at(-1)), 'aria-label': `Save ${clean(path)}`, title: 'Save on this device'}, icon('save')),
        !isReadOnly() && iconButton('rename', `Rename ${clean(path)}`, () => renameDialog(id, facts.single ? path : `${row().name}/${path}`)))));
    return one;
  }

  function tellFiles() {
    put(fileFacts, facts.files ? counted(facts.files, 'file') : '');
    files.hidden = !known.length;
    unknown.hidden = known.length > 0;
    for (const one of [map.element, legend, hover]) one.hidden = !known.length;
    for (const [index, path, bytes, done, wanted, priority, , , played] of known.slice(0, room)) {
      let one = fileRows.get(index);
      if (one?.path !== path) {
        const before = one;
        fileRows.set(index, one = makeFile(index, path, bytes, played));
        if (before) before.element.replaceWith(one.element);
        else fileBody.append(one.element);
      }
      one.element.classList.toggle('unwanted', !wanted);
      one.box.checked = picked.has(index);
      one.fill.style.transform = `scaleX(${done})`;
      put(one.share, percent(done));
      const value = wanted ? PRIORITIES.find(([, , number]) => number === priority)[0] : 'skip';
      if (document.activeElement !== one.select) one.select.value = value;
    }
    more.hidden = known.length <= room;
    toolbar.hidden = isReadOnly() || known.length < 2;
    every.checked = picked.size > 0 && picked.size === known.length;
    every.indeterminate = picked.size > 0 && !every.checked;
    put(about, picked.size ? `${counted(picked.size, 'file')} selected` : 'Select files to set their priority together');
    for (const button of several) button.disabled = !picked.size;
  }

  // --- peers ---------------------------------------------------------------------------------

  const peerRows = new Map();
  const peerBody = h('tbody');
  const peerFacts = h('span.faint');
  const peerTable = h('section.panel', {'aria-labelledby': 'peers-title'}, h('div.panel-head', h('h2', {id: 'peers-title'}, 'Peers'), peerFacts),
    h('div.scrolls', {role: 'region', 'aria-label': 'Table of peers', tabindex: 0}, h('table', h('thead', h('tr', ['Address', 'Client', 'Has', 'Receiving', 'Sending', 'Flags', 'Over', 'Encryption', 'Found by'].map((name) => h('th', {scope: 'col'}, name)))), peerBody)));

  function tellPeers() {
    put(peerFacts, counted(peers.length, 'connection'));
    empty.hidden = peers.length > 0;
    peerTable.querySelector('.scrolls').hidden = !peers.length;
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

  // --- all the rest --------------------------------------------------------------------------

  const lines = {};
  const line = (key, name) => [h('dt', name), lines[key] = h('dd')];
  const facet = h('section.panel', {'aria-labelledby': 'about-title'}, h('div.panel-head', h('h2', {id: 'about-title'}, 'About')),
    h('dl.facts-list', line('moved', 'Received, sent'), line('wasted', 'Wasted'), line('reused', 'Was on this disk'), line('shared', 'Shared'), line('labels', 'Labels'),
      line('added', 'Added'), line('completed', 'Complete'), line('time', 'At work'), line('path', 'Content'), line('hash', 'Infohash'), line('published', 'In search')));

  function tellAbout() {
    const one = row();
    if (!one) return;
    put(lines.moved, `${size(one.downloaded)}, ${size(one.uploaded)}`);
    put(lines.wasted, size(facts.wasted ?? 0));
    put(lines.reused, size(facts.reused ?? 0));
    put(lines.shared, facts.shared_enough ? `enough, by its ${facts.shared_enough === 'ratio' ? 'ratio' : 'time without anybody'}: it is paused` : seedingText(one.seeding));
    put(lines.labels, clean(one.labels.join(', ')) || 'none');
    put(lines.added, ago(one.added_at));
    put(lines.completed, facts.completed_at ? ago(facts.completed_at) : 'not yet');
    put(lines.time, `downloading ${duration(facts.seconds_downloading ?? 0)}, seeding ${duration(facts.seconds_seeding ?? 0)}`);
    put(lines.path, clean(facts.path ?? 'not known yet'));
    put(lines.hash, id);
    put(lines.published, clean(one.published ? 'everybody can find it' : facts.not_published ?? 'not published'));
  }

  const empty = h('p.faint.nobody', 'Nobody is connected.');
  peerTable.append(empty);
  main.append(head, pictures, files, peerTable, facet);

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
    const stuck = isStuck(one);
    head.dataset.state = one.error ? 'error' : stuck ? 'stuck' : one.state;
    help.hidden = !stuck || stopped() || isReadOnly();
    put(state, STATES[one.state] ?? one.state);
    put(why, clean(one.error ?? one.warning ?? one.why ?? ''));
    put(share, one.state === 'metadata' ? '' : percent(one.progress));
    bar.style.transform = `scaleX(${one.progress})`;
    progress.setAttribute('aria-valuenow', Math.floor(one.progress * 100));
    pause.replaceChildren(icon(stopped() ? 'play' : 'pause'), h('span', stopped() ? 'Resume' : 'Pause'));
    put(tiles.down, rate(one.down));
    put(tiles.up, rate(one.up));
    const limits = limitText(one.limit_down, one.limit_up);
    put(limit, limits ? `Limited to ${limits}` : 'Limit');
    put(tiles.eta, one.progress >= 1 ? 'complete' : duration(one.eta));
    put(tiles.size, one.size ? size(one.size) : 'not known yet');
    put(tiles.ratio, one.ratio.toFixed(2));
    put(tiles.peers, String(one.peers));
    put(tiles.queue, `${one.queue + 1} of ${rows.size}`);
    tellAbout();
  }

  const offs = [
    on('change', tellRow),
    on('second', () => chart.draw()),
    on('torrent', (told) => {
      if (told.id !== id) return;
      if (told.facts) { facts = told.facts; tellAbout(); }
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
  tellFiles();
  tellPeers();
  tellRow();
  look({torrent: id});
  return {
    title: row() ? clean(row().name) : 'Torrent',
    redraw() { for (const one of [chart, map, picture]) one.draw(); },
    leave() { for (const off of offs) off(); },
  };
}
