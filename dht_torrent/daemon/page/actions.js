// What is asked of torrents, and the dialogs for it.

import {clean, counted, dialog, h, menu, rate, stranger, toast} from './dom.js';
import {api, isReadOnly, node, rows} from './live.js';

const LARGEST = 10 * 1024 * 1024;

/** Magnet links or infohashes, one a line. */
export async function addText(text, options = {}) {
  const sources = text.split(/\s+/).filter(Boolean);
  let added = null;
  for (const source of sources) {
    const torrent = await api('POST', 'torrents', {source, ...options}).catch(() => null);
    if (torrent) {
      toast(`Added ${torrent.name}`);
      added = torrent;
    }
  }
  return added;
}

export async function addFiles(files, options = {}) {
  let added = null;
  for (const file of files) {
    if (file.size > LARGEST) {
      toast(`${file.name} is too large for a .torrent`, 'error');
      continue;
    }
    const bytes = new Uint8Array(await file.arrayBuffer());
    let text = '';
    for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
    const torrent = await api('POST', 'torrents', {torrent: btoa(text), ...options}).catch(() => null);
    if (torrent) {
      toast(`Added ${torrent.name}`);
      added = torrent;
    }
  }
  return added;
}

export function addDialog() {
  if (isReadOnly()) {
    toast('This page is for looking only');
    return;
  }
  dialog('Add torrents', (close) => {
    const text = h('textarea', {id: 'add-text', rows: 3, placeholder: 'magnet:?xt=urn:btih:… or an infohash, one a line', spellcheck: 'false'});
    const files = h('input', {id: 'add-files', type: 'file', accept: '.torrent', multiple: true});
    const share = h('input', {id: 'add-share', type: 'text', spellcheck: 'false', placeholder: node.download_dir ? `${node.download_dir}/…` : '/path'});
    const paused = h('input', {type: 'checkbox'});
    const sequential = h('input', {type: 'checkbox'});
    const publish = h('input', {type: 'checkbox'});
    const words = h('input', {id: 'add-words', type: 'search', placeholder: 'Words of its title'});
    const submit = async (event) => {
      event.preventDefault();
      const options = {};
      if (paused.checked) options.paused = true;
      if (sequential.checked) options.sequential = true;
      if (words.value.trim()) {
        location.hash = `#/search/${encodeURIComponent(words.value.trim())}`;
        close();
        return;
      }
      let added = null;
      if (text.value.trim()) added = await addText(text.value, options);
      if (files.files.length) added = await addFiles(files.files, options) ?? added;
      if (share.value.trim()) {
        const torrent = await api('POST', 'torrents', {share: share.value.trim(), publish: publish.checked}).catch(() => null);
        if (torrent) toast(`Sharing ${torrent.name}`);
        added = torrent ?? added;
      }
      if (added) close();
    };
    return h('form.stack', {onsubmit: submit},
      h('label', {for: 'add-text'}, 'Magnet links'), text,
      h('label', {for: 'add-files'}, '.torrent files ', h('span.faint', '(or drop them anywhere)')), files,
      h('div.row.wrap', h('label.check', paused, 'Paused'), h('label.check', sequential, 'First piece first')),
      h('div.or', h('span', 'or')),
      h('label', {for: 'add-words'}, 'Search'), words,
      h('label', {for: 'add-share'}, 'Share a file or folder of the node’s machine'), share,
      h('label.check', publish, 'Let everybody find it by its name'),
      h('div.row.end', h('button.button', {type: 'button', onclick: close}, 'Cancel'), h('button.button.primary', {type: 'submit'}, 'Add')),
    );
  }).querySelector('textarea').focus();
}

export async function act(ids, action, body) {
  const done = await Promise.allSettled(ids.map((id) => api('POST', `torrents/${id}/${action}`, body)));
  return done.filter((one) => one.status === 'fulfilled').length;
}

export function removeDialog(ids, then) {
  if (isReadOnly()) return;
  const data = h('input', {type: 'checkbox'});
  dialog(ids.length === 1 ? 'Remove this torrent?' : `Remove ${ids.length} torrents?`, (close) => {
    const submit = async (event) => {
      event.preventDefault();
      close();
      let left = 0;
      const query = data.checked ? '?data=1' : '';
      const done = await Promise.allSettled(ids.map((id) => api('DELETE', `torrents/${id}${query}`)));
      for (const one of done) left += one.value?.left_files ?? 0;
      const removed = done.filter((one) => one.status === 'fulfilled').length;
      if (removed) toast(`Removed ${counted(removed, 'torrent')}${left ? `; ${counted(left, 'file')} that it did not make stay` : ''}`);
      then?.();
    };
    return h('form.stack', {onsubmit: submit},
      h('ul.names', ids.slice(0, 5).map((id) => h('li', stranger(rows.get(id)?.name ?? id))), ids.length > 5 && h('li.faint', `and ${ids.length - 5} more`)),
      h('label.check', data, 'Delete the files it made as well'),
      h('div.row.end', h('button.button', {type: 'button', onclick: close}, 'Cancel'), h('button.button.danger', {type: 'submit'}, 'Remove')),
    );
  });
}

const kib = (bytes) => bytes === null || bytes === undefined ? '' : Math.round(bytes / 1024);
const fromKib = (input) => input.value === '' ? null : Math.max(1, Math.round(Number(input.value) * 1024));
/** Of these fields, what was changed: others may hold a number that is no whole KiB. */
const changed = (fields) => Object.fromEntries(Object.entries(fields).filter(([, input]) => input.value !== input.defaultValue).map(([key, input]) => [key, fromKib(input)]));
const rateField = (id, value) => h('input', {id, type: 'number', min: 0, step: 1, inputmode: 'numeric', placeholder: 'no limit', value: kib(value)});
const buttons = (close, text) => h('div.row.end', h('button.button', {type: 'button', onclick: close}, 'Cancel'), h('button.button.primary', {type: 'submit'}, text));
export const isStopped = (row) => ['paused', 'queued', 'error'].includes(row?.state);

/** Of torrents, each; of all together where none is named. */
export function limitDialog(ids) {
  if (isReadOnly()) return;
  if (!ids.length) {
    allLimitsDialog();
    return;
  }
  const now = ids.length === 1 ? rows.get(ids[0]) : {};
  const down = rateField('limit-down', now?.limit_down);
  const up = rateField('limit-up', now?.limit_up);
  dialog(ids.length === 1 ? 'Limit this torrent' : `Limit ${ids.length} torrents, each`, (close) => {
    const submit = async (event) => {
      event.preventDefault();
      await act(ids, 'limits', ids.length === 1 ? changed({down, up}) : {down: fromKib(down), up: fromKib(up)});
      close();
    };
    return h('form.stack', {onsubmit: submit},
      h('label', {for: 'limit-down'}, 'Receive at most, KiB/s'), down,
      h('label', {for: 'limit-up'}, 'Send at most, KiB/s'), up,
      buttons(close, 'Set'));
  });
}

function allLimitsDialog() {
  const down = rateField('limit-down', node.usual_down);
  const up = rateField('limit-up', node.usual_up);
  const otherDown = rateField('other-down', node.alternative_down);
  const otherUp = rateField('other-up', node.alternative_up);
  const on = h('input', {type: 'checkbox', checked: node.alternative});
  const hours = h('input', {id: 'other-hours', type: 'text', spellcheck: 'false', placeholder: 'never by the clock', value: node.hours ?? ''});
  dialog('Limit all torrents together', (close) => {
    const submit = async (event) => {
      event.preventDefault();
      const body = changed({down, up, alternative_down: otherDown, alternative_up: otherUp});
      if (on.checked !== node.alternative) body.alternative = on.checked;
      if (hours.value.trim() !== (node.hours ?? '')) body.hours = hours.value.trim() || null;
      if (await api('POST', 'limits', body).catch(() => null)) close();
    };
    return h('form.stack', {onsubmit: submit},
      h('div.pair', h('label', {for: 'limit-down'}, 'Receive at most, KiB/s'), h('label', {for: 'limit-up'}, 'Send at most, KiB/s'), down, up),
      h('div.or', h('span', 'alternative limits, for hours in which others need the line')),
      h('label.check', on, 'These hold now'),
      h('div.pair', h('label', {for: 'other-down'}, 'Receive, KiB/s'), h('label', {for: 'other-up'}, 'Send, KiB/s'), otherDown, otherUp),
      h('label', {for: 'other-hours'}, 'By the clock, as “mon-fri 09:00-17:00”'), hours,
      buttons(close, 'Set'));
  });
}

export const switchLimits = () => api('POST', 'limits', {alternative: !node.alternative}).catch(() => null);

export const limitText = (down, up) => [down && `↓ ${rate(down)}`, up && `↑ ${rate(up)}`].filter(Boolean).join(', ');

// --- when it has been shared enough --------------------------------------------------------------

const ratioText = (ratio) => ratio === null || ratio === undefined ? 'no limit' : `ratio ${ratio}`;
const idleText = (idle) => idle === null || idle === undefined ? 'no limit' : `${Math.round(idle / 60)} min`;
const then = () => node.after_seeding === 'remove' ? 'it is removed from this node; its files stay' : 'it is paused';

/** When a torrent with these limits stops being shared, in a line. */
export function seedingText([ratio, idle]) {
  const value = (own, nodes) => own === 'node' ? nodes : own === 'none' ? null : own;
  const [much, long] = [value(ratio, node.seed_ratio), value(idle, node.seed_idle)];
  const when = [much !== null && much !== undefined && `at ratio ${much}`, long !== null && long !== undefined && `after ${idleText(long)} without anybody`].filter(Boolean);
  return when.length ? `${when.join(' or ')} ${then()}` : 'without end';
}

export function seedingDialog(ids, [ratioNow, idleNow] = ['node', 'node']) {
  if (isReadOnly()) return;
  const choice = (id, value, nodes, unit, scale) => {
    const own = typeof value === 'number';
    const number = h('input', {type: 'number', min: 0, step: scale === 1 ? 0.1 : 1, 'aria-label': unit, value: own ? value / scale : scale === 1 ? 2 : 30});
    const select = h('select', {id, onchange: () => { number.disabled = select.value !== 'own'; }},
      h('option', {value: 'node', selected: value === 'node'}, `As for all: ${nodes}`), h('option', {value: 'none', selected: value === 'none'}, 'No limit'), h('option', {value: 'own', selected: own}, 'Its own:'));
    number.disabled = !own;
    return {row: h('div.row', select, number), value: () => select.value === 'own' ? Number(number.value) * scale : select.value};
  };
  const ratio = choice('seed-ratio', ratioNow, ratioText(node.seed_ratio), 'Its own ratio', 1);
  const idle = choice('seed-idle', idleNow, idleText(node.seed_idle), 'Its own minutes', 60);
  dialog('Shared enough', (close) => {
    const submit = async (event) => {
      event.preventDefault();
      if (await act(ids, 'seeding', {ratio: ratio.value(), idle: idle.value()})) close();
    };
    return h('form.stack', {onsubmit: submit},
      h('label', {for: 'seed-ratio'}, 'Ratio: bytes sent for each one received'), ratio.row,
      h('label', {for: 'seed-idle'}, 'Minutes without anybody who takes it'), idle.row,
      h('p.faint.small', `When either is reached, ${then()}.`),
      buttons(close, 'Set'));
  });
}

// --- the queue -----------------------------------------------------------------------------------

/** Several keep their order among each other: one after the other, those in front first, or last. */
export async function moveInQueue(ids, to) {
  if (isReadOnly()) return;
  const late = to === 'top' || to === 'down';
  const place = (id) => rows.get(id)?.queue ?? 0;
  const order = ids.toSorted((a, b) => late ? place(b) - place(a) : place(a) - place(b));
  let edge = to === 'up' ? 0 : to === 'down' ? rows.size - 1 : NaN;
  for (const id of order) {
    if (place(id) === edge) {
      edge += to === 'up' ? 1 : -1; // it is there already, and those behind it come no further
      continue;
    }
    edge = NaN;
    if (!await act([id], 'queue', {to})) return;
  }
}

// --- what it is called, and where it lies ---------------------------------------------------------

/** One field of text, and what is done with it. */
function textDialog(title, label, value, button, done) {
  if (isReadOnly()) return;
  dialog(title, (close) => {
    const input = h('input', {type: 'text', id: 'one-text', value, spellcheck: 'false'});
    const submit = async (event) => {
      event.preventDefault();
      if (await done(input.value.trim())) close();
    };
    return h('form.stack', {onsubmit: submit}, h('label', {for: 'one-text'}, label), input, buttons(close, button));
  });
}

export function moveDialog(ids, folder) {
  const title = ids.length === 1 ? 'Move the content' : `Move the content of ${ids.length} torrents`;
  textDialog(title, 'Folder on the node’s machine', folder ?? node.download_dir ?? '', 'Move', async (to) => {
    const moving = await act(ids, 'move', {folder: to, wait: false});
    if (moving) toast('Moving');
    return moving;
  });
}

/** Those that all of them have are shown; what each has besides stays. */
export function labelDialog(ids) {
  const of = (id) => rows.get(id)?.labels ?? [];
  const common = of(ids[0]).filter((label) => ids.every((id) => of(id).includes(label)));
  const title = ids.length === 1 ? 'Labels' : `Labels of ${ids.length} torrents`;
  textDialog(title, 'Words to find it by, with commas between', common.join(', '), 'Set', async (text) => {
    const words = text.split(',').map((word) => word.trim()).filter(Boolean);
    const done = await Promise.allSettled(ids.map((id) => {
      const labels = [...new Set([...of(id).filter((label) => !common.includes(label)), ...words])];
      return api('POST', `torrents/${id}/labels`, {labels});
    }));
    return done.some((one) => one.status === 'fulfilled');
  });
}

/** `path` is what is renamed, from the torrent's name on. */
export function renameDialog(id, path) {
  const name = path.split('/').at(-1);
  textDialog('Rename on this disk', 'What others know of the torrent does not change', name, 'Rename', (to) =>
    to === name || api('POST', `torrents/${id}/rename`, {path, name: to}).catch(() => null));
}

// --- all that can be done, in a menu -------------------------------------------------------------

export async function copyLinks(ids) {
  const links = await Promise.all(ids.map((id) => api('GET', `torrents/${id}`).then((one) => one.magnet).catch(() => null)));
  copy(links.filter(Boolean).join('\n'), ids.length === 1 ? 'Magnet link' : `${ids.length} magnet links`);
}

/** For these torrents; `then` is called when they are gone. Of one it may be known that it can be
 * played. */
export function torrentMenu(at, ids, then, played = false) {
  const [row] = ids.map((id) => rows.get(id));
  if (!row) return;
  const one = ids.length === 1 ? row.id : null;
  const looks = [
    ['link', one ? 'Copy magnet link' : 'Copy magnet links', () => copyLinks(ids)],
    ...one && row.size ? [
      ['save', 'Save .torrent', `/api/v1/torrents/${one}/torrent`, `${clean(row.name).replaceAll('/', '_')}.torrent`],
      ...played ? [['play', 'Playlist for a player', `/stream/${one}.m3u8`, `${clean(row.name).replaceAll('/', '_')}.m3u8`]] : [],
    ] : [],
  ];
  const queue = (name, text, to) => [name, text, () => moveInQueue(ids, to)];
  const stopped = ids.every((id) => isStopped(rows.get(id)));
  const title = one ? clean(row.name) : `${ids.length} torrents`;
  menu(at, `What to do with ${title}`, isReadOnly() ? looks : [
    stopped ? ['play', 'Resume', () => act(ids, 'resume')] : ['pause', 'Pause', () => act(ids, 'pause')],
    ['find', 'Find peers now', async () => { if (await act(ids, 'announce', {})) toast('Looking for peers'); }],
    ['recheck', 'Recheck', () => act(ids, 'recheck')],
    ['Queue', [queue('top', 'To the top of the queue', 'top'), queue('up', 'Up in the queue', 'up'), queue('down', 'Down in the queue', 'down'), queue('bottom', 'To the bottom of the queue', 'bottom')]],
    null,
    ['limit', 'Limit …', () => limitDialog(ids)],
    ['seed', 'Shared enough …', () => seedingDialog(ids, one ? row.seeding : undefined)],
    ['label', 'Labels …', () => labelDialog(ids)],
    ...one && row.size ? [['rename', 'Rename …', () => renameDialog(one, row.name)]] : [],
    ['folder', 'Move …', () => moveDialog(ids, one ? row.folder : undefined)],
    ...one && row.size ? [[
      'world', row.published ? 'Publish no more' : 'Let everybody find it',
      () => act(ids, row.published ? 'unpublish' : 'publish', row.published ? undefined : {}),
    ]] : [],
    null,
    ...looks,
    null,
    ['remove', 'Remove …', () => removeDialog(ids, then), 'danger'],
  ]);
}

export function helpDialog() {
  const keys = [
    ['a', 'Add torrents'], ['/', 'Find'], ['t, s, d', 'Torrents, search, DHT'], ['↑ ↓', 'From torrent to torrent'],
    ['Space', 'Select'], ['Ctrl A', 'Select all'], ['Enter', 'Open'], ['p', 'Pause or resume'], ['l', 'Limit'], ['+ −', 'Up and down in the queue'], ['m', 'All that can be done'], ['Delete', 'Remove'], ['Ctrl V', 'Add the magnet link that was copied'], ['?', 'This'],
  ];
  dialog('Keys', () => h('dl.keys', keys.map(([key, what]) => [h('dt', h('kbd', key)), h('dd', what)])));
}

export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    toast(`${what} copied`);
  } catch {
    dialog(what, () => h('textarea', {rows: 4, 'aria-label': what}, clean(text)));
  }
}
