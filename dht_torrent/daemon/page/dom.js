// Elements, and how numbers are written. The rule: whatever comes from elsewhere becomes text, and
// never markup: `h` sets textContent and attributes from a short list, and nothing here parses HTML.

const SVG = 'http://www.w3.org/2000/svg';

const PATHS = {
  pause: 'M8 5v14M16 5v14',
  play: 'M7 4.5v15l12-7.5Z',
  remove: 'M5 7h14M10 7V4.5h4V7M7 7l1 13h8l1-13',
  limit: 'M4 16a8 8 0 1 1 16 0M12 16l4-5',
  link: 'M10 14a4 4 0 0 0 6 0l3-3a4 4 0 0 0-6-6l-1.5 1.5M14 10a4 4 0 0 0-6 0l-3 3a4 4 0 0 0 6 6l1.5-1.5',
  back: 'M14 5l-7 7 7 7',
  check: 'M5 12.5l4.5 4.5L19 7',
  recheck: 'M19 12a7 7 0 1 1-2-5M19 3v4.5h-4.5',
  find: 'M12 3v3M12 18v3M3 12h3M18 12h3M12 8.5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7Z',
  search: 'M11 4.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13ZM16 16l5 5',
  star: 'M12 4l2.5 5.2 5.5.7-4 3.9 1 5.7-5-2.8-5 2.8 1-5.7-4-3.9 5.5-.7Z',
  block: 'M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16ZM6.5 6.5l11 11',
  down: 'M12 4v14M6 12.5l6 6 6-6',
  up: 'M12 20V6M6 11.5l6-6 6 6',
  label: 'M4 12V5h7l9 9-7 7-9-9ZM8 8.5v.01',
  folder: 'M3.5 6.5h6l2 2.5h9v10h-17Z',
  close: 'M6 6l12 12M18 6L6 18',
  more: 'M5 12v.01M12 12v.01M19 12v.01',
  rename: 'M4 20l1-4.5L16 4.5l3.5 3.5L8.5 19ZM13.5 7l3.5 3.5',
  top: 'M5 4.5h14M12 20V9M6.5 14l5.5-5.5 5.5 5.5',
  bottom: 'M5 19.5h14M12 4v11M6.5 10l5.5 5.5 5.5-5.5',
  seed: 'M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16ZM12 7.5V12l3 2',
  save: 'M12 4v10M7.5 10l4.5 4.5 4.5-4.5M5 19.5h14',
  file: 'M6 3.5h8l4 4v13H6ZM14 3.5v4h4',
  world: 'M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16ZM4 12h16M12 4c-5 5-5 11 0 16 5-5 5-11 0-16Z',
};

const ATTRIBUTES = /^(class|id|type|for|role|tabindex|placeholder|value|min|max|step|rows|name|colspan|scope|title|autocomplete|spellcheck|inputmode|accept|multiple|width|height|hidden|disabled|checked|selected|dir|href|open|popover|download|target|viewBox|d|cx|cy|r|x|y|x1|x2|y1|y2|fill|points|transform|text-anchor|aria-[a-z]+|data-[a-z]+)$/;

function make(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (value === false || value === null || value === undefined) continue;
    else if (!ATTRIBUTES.test(name)) throw new Error(`no such attribute here: ${name}`);
    else if (name === 'href' && !/^(#|\/(?!\/))/.test(value)) throw new Error('not one of our links');
    else element.setAttribute(name, value === true ? '' : value);
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
}

/** An element: `h('p.small', {id: 'x'}, 'text', other)`. */
export function h(what, properties, ...children) {
  const [tag, ...classes] = what.split('.');
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(' ');
  if (properties instanceof Node || typeof properties !== 'object' || Array.isArray(properties)) {
    children.unshift(properties);
    properties = null;
  }
  return make(element, properties, children);
}

export function s(tag, properties, ...children) {
  return make(document.createElementNS(SVG, tag), properties, children);
}

export function icon(name) {
  return s('svg', {viewBox: '0 0 24 24', 'aria-hidden': 'true'}, s('path', {d: PATHS[name]}));
}

export function iconButton(name, label, onclick) {
  return h('button.icon-button', {type: 'button', 'aria-label': label, title: label, onclick}, icon(name));
}

/** A name that a stranger chose: isolated from the direction of what stands beside it, and without
 * what would turn the rest of a line around, or be seen by nobody. */
export function stranger(text, tag = 'bdi') {
  const element = h(tag, {dir: 'auto'});
  element.textContent = clean(text);
  return element;
}

export const clean = (text) => String(text).replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g, '\ufffd');

/** Write a text only where it is another, so that nothing is laid out for nothing. */
export function put(element, text) {
  if (element.firstChild === null || element.textContent !== text) element.textContent = text;
}

/** A menu beside `at` (an element, or {x, y}). Items are [icon, text, what is done or a link, danger];
 * a list of [icon, text, what is done] after a title makes a row of buttons; null is a line between. */
export function menu(at, label, items) {
  const back = document.activeElement;
  const box = h('div.menu', {role: 'menu', 'aria-label': label, popover: 'auto'});
  const shut = () => { if (box.matches(':popover-open')) box.hidePopover(); };
  const chosen = (done) => () => { shut(); done(); };
  for (const item of items) {
    if (item === null) box.append(h('hr', {role: 'separator'}));
    else if (Array.isArray(item[1])) {
      const [title, buttons] = item;
      box.append(h('div.menu-row', {role: 'group', 'aria-label': title}, h('span.faint', title),
        buttons.map(([name, text, done]) => h('button.icon-button', {type: 'button', role: 'menuitem', tabindex: -1, 'aria-label': text, title: text, onclick: done}, icon(name)))));
    } else {
      const [name, text, done, kind] = item;
      const inside = [icon(name), h('span', text)];
      box.append(typeof done === 'string'
        ? h('a.menu-item', {role: 'menuitem', tabindex: -1, href: done, onclick: shut, download: kind}, inside)
        : h('button.menu-item', {type: 'button', role: 'menuitem', tabindex: -1, 'data-kind': kind, onclick: chosen(done)}, inside));
    }
  }
  const all = [...box.querySelectorAll('[role="menuitem"]')];
  box.addEventListener('keydown', (event) => {
    const now = all.indexOf(document.activeElement);
    const to = {ArrowDown: now + 1, ArrowRight: now + 1, ArrowUp: now - 1, ArrowLeft: now - 1, Home: 0, End: -1}[event.key];
    if (event.key === 'Tab') shut();
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    all.at(to % all.length).focus();
  });
  box.addEventListener('toggle', ({newState}) => {
    if (newState === 'open') return;
    if (box.contains(document.activeElement) || document.activeElement === document.body) back?.focus?.({preventScroll: true});
    box.remove();
  });
  document.getElementById('main').append(box);
  box.showPopover();
  const edge = at.getBoundingClientRect?.() ?? {left: at.x, right: at.x, top: at.y, bottom: at.y};
  const {offsetWidth: width, offsetHeight: height} = box;
  const below = edge.bottom + 6 + height < innerHeight - 8;
  box.style.left = `${Math.max(8, Math.min(edge.left, innerWidth - width - 8))}px`;
  box.style.top = `${Math.max(8, below ? edge.bottom + 6 : Math.min(edge.top - height - 6, innerHeight - height - 8))}px`;
  all[0]?.focus();
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

export function size(bytes) {
  if (bytes === null || bytes === undefined) return '';
  let unit = 0;
  while (bytes >= 1000 && unit < UNITS.length - 1) { bytes /= 1024; unit += 1; }
  const digits = unit === 0 || bytes >= 100 ? 0 : bytes >= 10 ? 1 : 2;
  return `${bytes.toFixed(digits)} ${UNITS[unit]}`;
}

export const rate = (bytes) => `${size(bytes)}/s`;

/** `141 of 213 MiB`: the unit once where both have the same. */
export function sizeOf(part, whole) {
  const [some, all] = [size(part), size(whole)];
  const [number, unit] = some.split(' ');
  return `${all.endsWith(` ${unit}`) ? number : some} of ${all}`;
}

export function percent(share) {
  if (share >= 1) return '100 %';
  return `${(Math.floor(share * 1000) / 10).toFixed(1)} %`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return '∞';
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.round(seconds % 3600 / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.round(seconds % 86400 / 3600)} h`;
}

export function ago(unix) {
  const seconds = Date.now() / 1000 - unix;
  if (seconds < 60) return 'just now';
  if (seconds < 3600) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.round(seconds / 3600)} h ago`;
  if (seconds < 60 * 86400) return `${Math.round(seconds / 86400)} d ago`;
  return new Date(unix * 1000).toLocaleDateString(undefined, {year: 'numeric', month: 'short', day: 'numeric'});
}

export const count = (number) => Math.round(number).toLocaleString('en').replaceAll(',', '\u202f');

export const counted = (number, noun) => `${count(number)} ${noun}${number === 1 ? '' : 's'}`;

export function bytesOf(base64) {
  const text = atob(base64 ?? '');
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at += 1) bytes[at] = text.charCodeAt(at);
  return bytes;
}

export function toast(text, kind = 'info') {
  const box = document.getElementById('toasts');
  const shown = h('div.toast', {'data-kind': kind}, clean(text));
  box.append(shown);
  while (box.children.length > 4) box.firstChild.remove();
  setTimeout(() => shown.remove(), kind === 'error' ? 9000 : 4500);
}

/** A dialog, which closes by Escape, by a click beside it, or when `fill` says so. */
export function dialog(title, fill) {
  const box = h('dialog', {'aria-label': title});
  const close = () => box.close();
  append(box, [
    h('div.dialog-head', h('h2', title), iconButton('close', 'Close', close)),
    fill(close),
  ]);
  box.addEventListener('close', () => box.remove());
  box.addEventListener('mousedown', (event) => { if (event.target === box) close(); });
  document.body.append(box);
  box.showModal();
  return box;
}
