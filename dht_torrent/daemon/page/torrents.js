// All torrents. The rule: as many rows exist as fit on the screen, and they are used again: two
// thousand torrents cost no more than thirty.

import {counted, duration, h, icon, iconButton, percent, put, rate, size, sizeOf, stranger, clean} from './dom.js';
import {history, isReadOnly, node, on, rows} from './live.js';
import {act, addDialog, isStopped, limitDialog, limitText, moveInQueue, removeDialog, switchLimits, torrentMenu} from './actions.js';
import {speedChart} from './draw.js';

/** Something is wrong: it is no choice of its user, and not only its turn, that it waits for. */
export const isStuck = (row) => row.error !== null || (row.why !== null && !['seeding', 'queued', 'moving'].includes(row.state));

const FILTERS = {
  all: () => true,
  downloading: (row) => ['downloading', 'metadata', 'checking', 'moving'].includes(row.state),
  seeding: (row) => row.state === 'seeding',
  paused: (row) => row.state === 'paused' || row.state === 'queued',
  stuck: isStuck,
};
const byName = new Intl.Collator(undefined, {numeric: true}).compare;
const SORTS = {
  added: ['Latest first', (a, b) => b.added_at - a.added_at],
  name: ['Name', (a, b) => byName(a.name, b.name)],
  queue: ['Queue', (a, b) => a.queue - b.queue],
  progress: ['Progress', (a, b) => a.progress - b.progress],
  speed: ['Speed', (a, b) => (b.down + b.up) - (a.down + a.up)],
  size: ['Size', (a, b) => b.size - a.size],
  ratio: ['Ratio', (a, b) => b.ratio - a.ratio],
};
export const STATES = {
  metadata: 'Fetching metadata', checking: 'Checking', downloading: 'Downloading', seeding: 'Seeding',
  queued: 'Queued', paused: 'Paused', error: 'Error', moving: 'Moving',
};

const kept = {filter: 'all', sort: 'added', find: '', label: '', scroll: 0};

export function show(main) {
  const selected = new Set();
  let order = [];
  let current = null;

  // --- above the list ------------------------------------------------------------------------

  const chart = speedChart(() => history, 'hero-chart');
  const numbers = {down: h('strong'), up: h('strong')};
  const total = () => h('span.faint.small', h('span.total-run'), h('span'));
  const totals = {down: total(), up: total()};
  const slow = h('button.chip', {type: 'button', 'aria-pressed': 'false', onclick: () => { if (!isReadOnly()) switchLimits(); }}, 'Slow mode');
  const limits = h('button.chip', {type: 'button', onclick: () => limitDialog([])});
  const network = h('a.chip', {href: '#/dht'});
  const reach = h('span.chip');
  const hero = h('section.panel.hero', {'aria-label': 'Speed'},
    h('div.hero-numbers',
      h('div.big.down', icon('down'), h('div', numbers.down, totals.down)), h('div.big.up', icon('up'), h('div', numbers.up, totals.up)),
      h('div.row.wrap.chips', limits, slow, network, reach)),
    chart.element);

  const chips = Object.keys(FILTERS).map((name) => h('button.chip', {type: 'button', 'data-filter': name, onclick: () => { kept.filter = name; arrange(); scrollTo(0, 0); }},
    name[0].toUpperCase() + name.slice(1), h('span.count')));
  const find = h('input', {type: 'search', placeholder: 'Filter by name or label', 'aria-label': 'Filter by name or label', 'data-find': '', value: kept.find, oninput: () => { kept.find = find.value; arrange(); }});
  const label = h('select', {'aria-label': 'Label', hidden: true, onchange: () => { kept.label = label.value; arrange(); }});
  const sort = h('select', {'aria-label': 'Order', onchange: () => { kept.sort = sort.value; arrange(); }},
    Object.entries(SORTS).map(([name, [title]]) => h('option', {value: name, selected: name === kept.sort}, title)));
  const tools = h('div.tools', h('div.row.chips', {role: 'group', 'aria-label': 'Which torrents'}, chips), h('div.row.tools-end', find, label, sort));

  // --- the list ------------------------------------------------------------------------------

  const list = h('div.list', {role: 'list', 'aria-label': 'Torrents'});
  const empty = h('div.empty', {hidden: true});
  const about = h('span');
  const picked = h('div.picked', {role: 'toolbar', 'aria-label': 'Selected torrents', hidden: true}, about,
    h('div.row',
      h('button.button', {type: 'button', onclick: () => act([...selected], 'pause')}, icon('pause'), h('span', 'Pause')),
      h('button.button', {type: 'button', onclick: () => act([...selected], 'resume')}, icon('play'), h('span', 'Resume')),
      h('button.button', {type: 'button', 'aria-haspopup': 'menu', onclick: ({currentTarget}) => torrentMenu(currentTarget, [...selected], clear)}, icon('more'), h('span', 'More')),
      h('button.button.danger', {type: 'button', onclick: () => removeDialog([...selected], clear)}, icon('remove'), h('span', 'Remove')),
      iconButton('check', 'Select all that are shown', selectAll), iconButton('close', 'Select none', () => clear())));
  main.append(h('h1.hidden', 'Torrents'), hero, tools, list, empty, picked);
  const pool = [];
  let height = 76;

  function clear() {
    selected.clear();
    place();
  }

  function selectAll() {
    for (const id of order) selected.add(id);
    place();
  }

  function makeRow() {
    const parts = {
      box: h('input', {type: 'checkbox', tabindex: -1, onclick: ({shiftKey}) => { toggle(parts.id, shiftKey); }}),
      link: h('a.name', {href: '#/'}),
      state: h('span.state'),
      facts: h('span.facts'),
      down: h('span.down'),
      up: h('span.up'),
      side: h('span.share'),
      bar: h('div.fill'),
      button: h('button.icon-button', {type: 'button', tabindex: -1, onclick: () => pauseOrResume(parts.id)}),
      more: h('button.icon-button.row-more', {type: 'button', tabindex: -1, 'aria-haspopup': 'menu', onclick: () => offer(parts.more, parts.id)}, icon('more')),
      icon: null,
      id: null,
    };
    parts.element = h('div.item', {role: 'listitem', tabindex: -1},
      h('label.pick', parts.box),
      h('div.item-main', h('div.item-top', parts.link), h('div.item-sub', parts.state, parts.facts)),
      h('div.item-side', h('div.item-speeds', parts.down, parts.up), parts.side),
      parts.button, parts.more,
      h('div.track', parts.bar));
    parts.element.addEventListener('focus', () => { current = parts.id; });
    parts.element.addEventListener('contextmenu', (event) => {
      if (event.target.closest('a')) return; // the browser's own has "open in another tab"
      event.preventDefault();
      offer({x: event.clientX, y: event.clientY}, parts.id);
    });
    return parts;
  }

  let toggled = null;

  /** With `range` also those between it and the one before. */
  function toggle(id, range = false) {
    const [from, to] = [order.indexOf(toggled), order.indexOf(id)].toSorted((a, b) => a - b);
    if (range && from >= 0) for (const one of order.slice(from, to + 1)) selected.add(one);
    else if (selected.has(id)) selected.delete(id);
    else selected.add(id);
    toggled = id;
    place();
  }

  /** The menu of a row: of all that are selected if it is one of them. */
  function offer(at, id) {
    torrentMenu(at, selected.has(id) ? [...selected] : [id], () => { selected.delete(id); place(); });
  }

  function pauseOrResume(id) {
    const row = rows.get(id);
    if (row && !isReadOnly()) act([id], isStopped(row) ? 'resume' : 'pause');
  }

  function tellLabels() {
    const labels = new Set();
    for (const row of rows.values()) for (const one of row.labels) labels.add(one);
    const sorted = [...labels].sort(byName);
    if (rows.size && !labels.has(kept.label)) kept.label = '';
    label.hidden = !sorted.length;
    if (label.dataset.labels === sorted.join()) return;
    label.dataset.labels = sorted.join();
    label.replaceChildren(h('option', {value: ''}, 'All labels'), ...sorted.map((one) => h('option', {value: one, selected: one === kept.label}, clean(one))));
  }

  function arrange() {
    const words = kept.find.toLowerCase().split(/\s+/).filter(Boolean);
    tellLabels();
    const found = [...rows.values()].filter((row) => (!kept.label || row.labels.includes(kept.label)) && words.every((word) => row.name.toLowerCase().includes(word) || row.labels.some((label) => label.toLowerCase().includes(word))));
    for (const chip of chips) {
      const name = chip.dataset.filter;
      const number = found.filter(FILTERS[name]).length;
      put(chip.lastChild, String(number));
      chip.setAttribute('aria-pressed', name === kept.filter);
      chip.classList.toggle('alert', name === 'stuck' && number > 0);
    }
    const compare = SORTS[kept.sort][1];
    order = found.filter(FILTERS[kept.filter]).sort((a, b) => compare(a, b) || (a.id < b.id ? -1 : 1)).map((row) => row.id);
    for (const id of selected) if (!rows.has(id)) selected.delete(id);
    if (!order.includes(current)) current = order[0] ?? null;
    empty.hidden = order.length > 0 || !('version' in node);
    if (!empty.hidden) {
      empty.replaceChildren(...(rows.size
        ? [h('p', 'No torrent is like that.')]
        : [h('h2', 'Nothing here yet'), h('p', 'Drop a .torrent file anywhere, paste a magnet link, or search what everybody publishes.'),
          h('div.row.center', h('button.button.primary', {type: 'button', onclick: () => addDialog()}, 'Add a torrent'), h('a.button', {href: '#/search'}, 'Search'))]));
    }
    place();
  }

  function place() {
    height = matchMedia('(max-width: 700px)').matches ? 92 : 76;
    list.style.height = `${order.length * height}px`;
    const top = list.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(-top / height) - 3);
    const last = Math.min(order.length, Math.ceil((innerHeight - top) / height) + 3);
    const wanted = new Map();
    for (let at = first; at < last; at += 1) wanted.set(order[at], at);
    const free = [];
    for (const parts of pool) if (!wanted.has(parts.id)) free.push(parts);
    const used = new Map(pool.filter((parts) => wanted.has(parts.id)).map((parts) => [parts.id, parts]));
    // Rows that leave are taken out, and those that come put where they belong: who hears the page
    // read to them hears it in order, and the row that has the focus stays where it is.
    for (const parts of free) {
      parts.element.remove();
      parts.id = null;
    }
    let next = list.firstChild;
    for (const [id, at] of wanted) {
      let parts = used.get(id);
      if (!parts) {
        parts = free.pop();
        if (!parts) pool.push(parts = makeRow());
        parts.id = id;
        parts.name = null;
      }
      fill(parts, at);
      if (parts.element === next) next = next.nextSibling;
      else list.insertBefore(parts.element, next);
    }
    picked.hidden = selected.size === 0;
    put(about, `${selected.size} selected`);
  }

  function fill(parts, at) {
    const row = rows.get(parts.id);
    if (!row) return;
    const {element} = parts;
    element.style.transform = `translateY(${at * height}px)`;
    element.setAttribute('aria-setsize', order.length);
    element.setAttribute('aria-posinset', at + 1);
    element.tabIndex = parts.id === current ? 0 : -1;
    element.classList.toggle('selected', selected.has(parts.id));
    parts.box.checked = selected.has(parts.id);
    if (parts.name !== row.name) {
      parts.name = row.name;
      parts.link.replaceChildren(stranger(row.name));
      parts.link.href = `#/torrent/${parts.id}`;
      parts.link.title = clean(row.name);
      parts.box.setAttribute('aria-label', `Select ${clean(row.name)}`);
    }
    element.dataset.state = row.error ? 'error' : isStuck(row) ? 'stuck' : row.state;
    put(parts.state, STATES[row.state] ?? row.state);
    const facts = row.error ?? (row.why && row.state !== 'seeding' ? row.why : null) ?? [
      row.state === 'downloading' && row.eta !== null ? `${duration(row.eta)} left` : '',
      row.state === 'seeding' || row.progress >= 1 ? size(row.size) : row.size ? sizeOf(row.size * row.progress, row.size) : '',
      counted(row.peers, 'peer'),
      ...row.labels,
    ].filter(Boolean).join(' · ');
    put(parts.facts, clean(facts));
    const hint = clean(row.error ?? row.why ?? '');
    if (parts.facts.title !== hint) parts.facts.title = hint;
    put(parts.down, row.down ? `↓ ${rate(row.down)}` : '');
    put(parts.up, row.up ? `↑ ${rate(row.up)}` : '');
    put(parts.side, row.progress >= 1 && row.state !== 'checking' ? `ratio ${row.ratio.toFixed(2)}` : row.state === 'metadata' ? '' : percent(row.progress));
    parts.bar.style.transform = `scaleX(${row.progress})`;
    const shown = isStopped(row) ? 'play' : 'pause';
    if (parts.icon !== shown) {
      parts.icon = shown;
      parts.button.replaceChildren(icon(shown));
    }
    parts.more.setAttribute('aria-label', `More for ${clean(row.name)}`);
    parts.button.setAttribute('aria-label', `${shown === 'play' ? 'Resume' : 'Pause'} ${clean(row.name)}`);
  }

  // --- keys ----------------------------------------------------------------------------------

  function step(by) {
    const at = Math.max(0, Math.min(order.length - 1, order.indexOf(current) + by));
    current = order[at] ?? null;
    const top = list.getBoundingClientRect().top + scrollY + at * height;
    if (top < scrollY + 130) scrollTo(0, top - 130);
    else if (top + height > scrollY + innerHeight - 80) scrollTo(0, top + height - innerHeight + 80);
    place();
    pool.find((parts) => parts.id === current)?.element.focus({preventScroll: true});
  }

  const pageful = () => Math.max(1, Math.floor((innerHeight - 200) / height));
  list.addEventListener('keydown', (event) => {
    if (event.target.matches('button')) return;
    if (event.ctrlKey || event.metaKey) {
      if (event.key !== 'a') return;
      event.preventDefault();
      selectAll();
      return;
    }
    const ids = selected.size ? [...selected] : [current];
    const keys = {
      ArrowDown: () => step(1),
      ArrowUp: () => step(-1),
      PageDown: () => step(pageful()),
      PageUp: () => step(-pageful()),
      Home: () => step(-order.length),
      End: () => step(order.length),
      ' ': () => toggle(current),
      Enter: () => { location.hash = `#/torrent/${current}`; },
      Delete: () => removeDialog(ids, clear),
      p: () => pauseOrResume(current),
      l: () => limitDialog(ids),
      '+': () => moveInQueue(ids, 'up'),
      '-': () => moveInQueue(ids, 'down'),
      m: () => offer(event.target, current),
      Escape: clear,
    };
    if (current && keys[event.key] && !(event.key === 'Enter' && event.target.matches('a'))) {
      event.preventDefault();
      event.stopPropagation();
      keys[event.key]();
    }
  });

  // --- what changes --------------------------------------------------------------------------

  function tellNode() {
    put(numbers.down, rate(node.down ?? 0));
    put(numbers.up, rate(node.up ?? 0));
    for (const way of ['down', 'up']) {
      put(totals[way].firstChild, `${size(node[`run_${way}`] ?? 0)} this run · `);
      put(totals[way].lastChild, `${size(node[`ever_${way}`] ?? 0)} in all`);
    }
    const limit = limitText(node.limit_down, node.limit_up);
    put(limits, limit ? `Limited to ${limit}` : 'No limit');
    const other = limitText(node.alternative_down, node.alternative_up) || 'none';
    slow.setAttribute('aria-pressed', Boolean(node.alternative));
    slow.disabled = isReadOnly();
    slow.title = `The alternative limits (${other}) ${node.alternative ? 'hold' : 'do not hold'}${node.hours ? `; by the clock: ${node.hours}` : ''}`;
    put(network, node.contacts ? `${counted(node.contacts, 'DHT contact')}` : 'No DHT contacts');
    network.classList.toggle('alert', !node.contacts);
    put(reach, node.reachable === true ? 'Reachable' : node.reachable === false ? 'Not reachable' : 'Reachable?');
    reach.title = clean(node.reachable_why ?? '');
    reach.classList.toggle('good', node.reachable === true);
  }

  let due = false;
  const offs = [
    on('change', () => {
      tellNode();
      if (due) return;
      due = true;
      requestAnimationFrame(() => { due = false; arrange(); });
    }),
    on('second', () => chart.draw()),
  ];
  let scrolling = false;
  const scrolled = () => {
    kept.scroll = scrollY;
    if (scrolling) return;
    scrolling = true;
    requestAnimationFrame(() => { scrolling = false; place(); });
  };
  addEventListener('scroll', scrolled, {passive: true});
  addEventListener('resize', scrolled);
  const back = kept.scroll;
  tellNode();
  arrange();
  return {
    title: 'Torrents',
    scroll: () => back,
    redraw: () => chart.draw(),
    leave() {
      for (const off of offs) off();
      removeEventListener('scroll', scrolled);
      removeEventListener('resize', scrolled);
    },
  };
}
