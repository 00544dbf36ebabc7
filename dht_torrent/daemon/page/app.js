// Which page is shown, and what all pages have: the bar, keys, files that are dropped.

import {h, put, rate, toast, counted} from './dom.js';
import * as live from './live.js';
import {addDialog, addFiles, addText, helpDialog} from './actions.js';
import {recolour} from './draw.js';

const main = document.getElementById('main');
let shown = null;

const PAGES = {
  torrents: () => import('./torrents.js'),
  torrent: () => import('./torrent.js'),
  search: () => import('./search.js'),
  dht: () => import('./dht.js'),
};

/** Of a part of the address, which people may have written. */
function plain(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

async function route() {
  const [, name = '', rest = ''] = location.hash.split('/');
  const kind = name === 'torrent' ? 'torrent' : name.split('?')[0] || 'torrents';
  const load = PAGES[kind] ?? PAGES.torrents;
  const at = location.hash;
  const module = await load().catch(() => null);
  if (location.hash !== at) return;
  if (module === null) {
    toast('The node does not answer', 'error');
    return;
  }
  shown?.leave?.();
  main.replaceChildren();
  live.look({});
  for (const link of document.querySelectorAll('nav a')) {
    const current = link.dataset.page === (kind === 'torrent' ? 'torrents' : kind);
    if (current) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  shown = module.show(main, plain(rest));
  main.dataset.shown = at;
  document.title = `${shown.title ?? 'dhtnode'} · dhtnode`;
  window.scrollTo(0, shown.scroll?.() ?? 0);
}

// --- light and dark ------------------------------------------------------------------------------

const themes = ['auto', 'light', 'dark'];
let theme = localStorage.getItem('theme') ?? 'auto';
function paint() {
  document.documentElement.dataset.theme = theme;
  document.getElementById('theme').setAttribute('aria-label', `Colours: ${theme}`);
  document.getElementById('theme').title = `Colours: ${theme}`;
  recolour();
  live.rows.size && shown?.redraw?.();
}
document.getElementById('theme').addEventListener('click', () => {
  theme = themes[(themes.indexOf(theme) + 1) % themes.length];
  localStorage.setItem('theme', theme);
  paint();
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { recolour(); shown?.redraw?.(); });

// --- the bar -------------------------------------------------------------------------------------

const down = h('span.down');
const up = h('span.up');
document.getElementById('speeds').append(down, up);
document.getElementById('add').addEventListener('click', () => addDialog());
const notice = document.getElementById('notice');
let lost = false;

const foot = document.getElementById('foot');
document.getElementById('keys').addEventListener('click', helpDialog);
document.getElementById('leave').addEventListener('click', async () => {
  await live.ask('POST', '/leave').catch(() => {});
  location.reload();
});

live.on('change', () => {
  foot.hidden = false;
  put(foot.firstChild, `dhtnode ${live.node.version ?? ''} at ${live.node.listen ?? ''}`);
  put(down, `↓ ${rate(live.node.down ?? 0)}`);
  put(up, `↑ ${rate(live.node.up ?? 0)}`);
  document.body.classList.toggle('read-only', live.isReadOnly());
  tellNotice();
});
live.on('state', (state) => {
  lost = state === 'lost';
  if (!lost) document.body.classList.remove('lost');
  setTimeout(tellNotice, lost ? 1500 : 0);
});

function tellNotice() {
  const warnings = live.node.warnings ?? [];
  const text = lost ? 'The node does not answer. Trying again …'
    : warnings.length === 1 ? warnings[0] : warnings.length ? `${counted(warnings.length, 'warning')}: ${warnings[0]}` : '';
  document.body.classList.toggle('lost', lost);
  notice.hidden = !text;
  notice.dataset.kind = lost ? 'lost' : 'warning';
  put(notice, text);
}

// --- keys, drops and pastes ----------------------------------------------------------------------

const typing = (event) => event.target.closest?.('input, textarea, select, dialog');

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event)) return;
  const act = {
    a: () => addDialog(),
    '/': () => (document.querySelector('[data-find]') ?? {focus: () => { location.hash = '#/search'; }}).focus(),
    '?': helpDialog,
    t: () => { location.hash = '#/'; },
    s: () => { location.hash = '#/search'; },
    d: () => { location.hash = '#/dht'; },
  }[event.key];
  if (act) {
    event.preventDefault();
    act();
  }
});

const drop = document.getElementById('drop');
let over = 0;
document.addEventListener('dragenter', (event) => {
  if (!event.dataTransfer?.types.includes('Files') || live.isReadOnly()) return;
  over += 1;
  drop.hidden = false;
});
document.addEventListener('dragleave', () => {
  over = Math.max(0, over - 1);
  drop.hidden = over === 0;
});
document.addEventListener('dragover', (event) => event.preventDefault());
document.addEventListener('drop', (event) => {
  event.preventDefault();
  over = 0;
  drop.hidden = true;
  if (event.dataTransfer?.files.length) addFiles(event.dataTransfer.files);
});
document.addEventListener('paste', (event) => {
  if (typing(event) || live.isReadOnly()) return;
  const text = event.clipboardData?.getData('text') ?? '';
  if (/^(magnet:\?|[0-9a-f]{40}\s*$)/i.test(text.trim())) addText(text);
});

window.addEventListener('hashchange', route);
window.addEventListener('error', (event) => toast(event.message, 'error'));
paint();
live.start();
route();
// The others as well, while there is a node to get them from.
addEventListener('load', () => setTimeout(() => Promise.allSettled(Object.values(PAGES).map((load) => load())), 500));
