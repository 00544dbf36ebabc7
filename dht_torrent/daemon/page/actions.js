// What is asked of torrents, and the dialogs for it.

import {clean, counted, dialog, h, stranger, toast} from './dom.js';
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

export function limitDialog(ids) {
  if (isReadOnly()) return;
  const now = ids.length === 1 ? rows.get(ids[0]) : ids.length ? {} : node;
  const field = (id, value) => h('input', {id, type: 'number', min: 0, step: 1, inputmode: 'numeric', placeholder: 'no limit', value: value === null || value === undefined ? '' : Math.round(value / 1024)});
  const down = field('limit-down', now?.limit_down);
  const up = field('limit-up', now?.limit_up);
  const title = ids.length === 0 ? 'Limit all torrents together' : ids.length === 1 ? 'Limit this torrent' : `Limit ${ids.length} torrents, each`;
  dialog(title, (close) => {
    const bytes = (input) => input.value === '' ? null : Math.max(1, Math.round(Number(input.value) * 1024));
    const submit = async (event) => {
      event.preventDefault();
      const body = {down: bytes(down), up: bytes(up)};
      if (ids.length) await act(ids, 'limits', body);
      else await api('POST', 'limits', body).catch(() => {});
      close();
    };
    return h('form.stack', {onsubmit: submit},
      h('label', {for: 'limit-down'}, 'Receive at most, KiB/s'), down,
      h('label', {for: 'limit-up'}, 'Send at most, KiB/s'), up,
      h('div.row.end', h('button.button', {type: 'button', onclick: close}, 'Cancel'), h('button.button.primary', {type: 'submit'}, 'Set')),
    );
  });
}

/** One field of text, and what is done with it. */
function textDialog(title, label, value, button, done) {
  if (isReadOnly()) return;
  dialog(title, (close) => {
    const input = h('input', {type: 'text', id: 'one-text', value, spellcheck: 'false'});
    const submit = async (event) => {
      event.preventDefault();
      if (await done(input.value.trim())) close();
    };
    return h('form.stack', {onsubmit: submit}, h('label', {for: 'one-text'}, label), input,
      h('div.row.end', h('button.button', {type: 'button', onclick: close}, 'Cancel'), h('button.button.primary', {type: 'submit'}, button)));
  });
}

export function moveDialog(id, folder) {
  textDialog('Move the content', 'Folder on the node’s machine', folder, 'Move', async (to) => {
    const moving = await api('POST', `torrents/${id}/move`, {folder: to, wait: false}).catch(() => null);
    if (moving) toast('Moving');
    return moving;
  });
}

export function labelDialog(id) {
  const labels = rows.get(id)?.labels ?? [];
  textDialog('Labels', 'Words to find it by, with commas between', labels.join(', '), 'Set', (text) => api(
    'POST', `torrents/${id}/labels`, {labels: text.split(',').map((word) => word.trim()).filter(Boolean)},
  ).catch(() => null));
}

export function helpDialog() {
  const keys = [
    ['a', 'Add torrents'], ['/', 'Find'], ['t, s, d', 'Torrents, search, DHT'], ['↑ ↓', 'From torrent to torrent'],
    ['Space', 'Select'], ['Enter', 'Open'], ['p', 'Pause or resume'], ['l', 'Limit'], ['Delete', 'Remove'], ['Ctrl V', 'Add the magnet link that was copied'], ['?', 'This'],
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
