// What the node tells as it happens, and what it is asked. One stream: `rows` are the torrents, in
// lines, and `node` is the node; who wants to know hears `change`, `torrent` or `dht`.

import {toast} from './dom.js';

export const rows = new Map();
export const node = {};
export const history = {down: [], up: [], of: new Map()};
const KEPT = 300;
/** Milliseconds without a word, after which the connection is dead: the node says something each 15 s. */
const DEAD = 40000;

const bus = new EventTarget();
let source = null;
let page = null;
let focus = {};
let readOnly = false;
let closing = 0;
let heard = 0;

export const isReadOnly = () => readOnly;
export const on = (kind, heard) => {
  const listener = (event) => heard(event.detail);
  bus.addEventListener(kind, listener);
  return () => bus.removeEventListener(kind, listener);
};
const tell = (kind, detail) => bus.dispatchEvent(new CustomEvent(kind, {detail}));

function note(told, all) {
  if (all) {
    for (const id of rows.keys()) if (!(id in told.rows)) { rows.delete(id); history.of.delete(id); }
  }
  for (const id of told.gone ?? []) { rows.delete(id); history.of.delete(id); }
  const changed = new Set();
  for (const [id, facts] of Object.entries(told.rows)) {
    if (id === '') Object.assign(node, facts);
    else {
      const row = rows.get(id);
      if (row) Object.assign(row, facts);
      else rows.set(id, {id, ...facts});
      changed.add(id);
    }
  }
  return changed;
}

function sampleRates() {
  if (!('down' in node) || page === null) return; // nothing is known of how fast it is now
  const keep = (list, value) => { list.push(value); if (list.length > KEPT) list.shift(); };
  keep(history.down, node.down);
  keep(history.up, node.up);
  for (const [id, row] of rows) {
    if (!row.down && !row.up && !history.of.has(id)) continue;
    let own = history.of.get(id);
    if (!own) history.of.set(id, own = {down: [], up: []});
    keep(own.down, row.down);
    keep(own.up, row.up);
    if (own.down.length >= KEPT && !own.down.some(Boolean) && !own.up.some(Boolean)) history.of.delete(id);
  }
  tell('second');
}

export function start() {
  open();
  setInterval(() => {
    sampleRates();
    // After a sleep of the computer, say, nothing else tells that nobody is at the other end.
    if (source?.readyState === EventSource.OPEN && Date.now() - heard > DEAD) {
      close();
      lost();
      open();
    }
  }, 1000);
  document.addEventListener('visibilitychange', () => {
    clearTimeout(closing);
    if (document.hidden) closing = setTimeout(close, 60000);
    else if (source === null) open();
  });
}

function close() {
  source?.close();
  source = null;
}

function lost() {
  page = null;
  tell('state', 'lost');
}

function open() {
  source = new EventSource('/events');
  heard = Date.now();
  for (const kind of ['open', 'hello', 'all', 'news', 'torrent', 'dht', 'silence']) source.addEventListener(kind, () => { heard = Date.now(); });
  source.addEventListener('hello', ({data}) => {
    const told = JSON.parse(data);
    page = told.page;
    readOnly = told.read_only;
    tell('state', 'open');
    if (Object.keys(focus).length) sendFocus();
  });
  source.addEventListener('all', ({data}) => { note(JSON.parse(data), true); tell('change', null); });
  source.addEventListener('news', ({data}) => {
    const told = JSON.parse(data);
    const changed = note(told, false);
    tell('change', {changed, gone: told.gone});
  });
  for (const kind of ['torrent', 'dht']) {
    source.addEventListener(kind, ({data}) => tell(kind, JSON.parse(data)));
  }
  source.addEventListener('error', () => {
    lost();
    if (source?.readyState === EventSource.CLOSED) {
      source = null;
      setTimeout(reenter, 3000);
    }
  });
}

/** The node refused the stream: it is another one by now, or there are too many pages. */
async function reenter() {
  if (source !== null || document.hidden) return;
  try {
    const answer = await fetch('/', {method: 'HEAD'});
    if (answer.status === 401) { location.reload(); return; }
  } catch { /* nobody is there */ }
  open();
}

let sending = false;

/** One at a time: two on their way could arrive in another order. */
async function sendFocus() {
  if (sending) return;
  sending = true;
  for (let sent = null; page !== null && (sent?.page !== page || sent.focus !== focus);) {
    sent = {page, focus};
    await ask('POST', `/events/${page}`, focus, {quiet: true}).catch(() => {});
  }
  sending = false;
}

/** Look at this closely from now on: {torrent: id}, {dht: true} or {}. */
export function look(what) {
  focus = what;
  sendFocus();
}

export class Refused extends Error {}

/** Ask the node; what it refuses is shown, and thrown. */
export async function ask(method, path, body, {quiet = false} = {}) {
  const options = {method, headers: {'x-dhtnode': '1'}};
  if (body !== undefined) {
    options.headers['content-type'] = 'application/json';
    options.body = JSON.stringify(body);
  }
  let answer;
  let told = null;
  try {
    answer = await fetch(path, options);
    const text = await answer.text();
    told = text && answer.headers.get('content-type')?.startsWith('application/json') ? JSON.parse(text) : null;
  } catch {
    if (!quiet) toast('The node does not answer', 'error');
    throw new Refused('no answer');
  }
  if (!answer.ok) {
    const why = told?.error ?? `refused (${answer.status})`;
    if (!quiet) toast(why, 'error');
    throw new Refused(why);
  }
  return told;
}

export const api = (method, path, body, options) => ask(method, `/api/v1/${path}`, body, options);

/** JSON values, a line each, as they come. */
export async function* lines(path, signal) {
  const answer = await fetch(`/api/v1/${path}`, {signal, headers: {'x-dhtnode': '1'}});
  if (!answer.ok) {
    let why = `refused (${answer.status})`;
    try { why = (await answer.json()).error; } catch { /* not JSON */ }
    throw new Refused(why);
  }
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return;
    const parts = (rest + value).split('\n');
    rest = parts.pop();
    for (const part of parts) if (part) yield JSON.parse(part);
  }
}
