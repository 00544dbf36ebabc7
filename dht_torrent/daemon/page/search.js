// Search: results as they stream in, the best first, and the publishers that are followed.

import {ago, clean, counted, h, icon, put, size, stranger, toast} from './dom.js';
import {api, isReadOnly, lines, Refused, rows} from './live.js';

const SHOWN = 200;
const kept = {text: '', results: new Map(), done: false};

export function show(main, text) {
  let abort = null;
  const input = h('input', {type: 'search', id: 'q', 'aria-label': 'Words of the title', placeholder: 'Search what everybody publishes', autocomplete: 'off', 'data-find': ''});
  const local = h('input', {type: 'checkbox'});
  const verified = h('input', {type: 'checkbox', onchange: () => draw()});
  const status = h('p.faint.status', {role: 'status'});
  const list = h('ul.results');
  const following = h('aside.panel.following', {'aria-labelledby': 'following-title'});
  const form = h('form.search-box', {role: 'search', onsubmit: (event) => { event.preventDefault(); run(input.value); }},
    icon('search'), input, h('button.button.primary', {type: 'submit'}, 'Search'));
  main.append(h('h1.hidden', 'Search'), form,
    h('div.row.wrap.search-options', h('label.check', local, 'Only what this node knows'), h('label.check', verified, 'Only verified'), status),
    h('div.search-columns', list, following));

  async function run(words) {
    abort?.abort();
    words = words.trim();
    if (!words) return;
    abort = new AbortController();
    const mine = abort;
    kept.text = words;
    kept.results.clear();
    kept.done = false;
    history.replaceState(null, '', `#/search/${encodeURIComponent(words)}`);
    draw();
    const query = new URLSearchParams({q: words, limit: '200', patience: '8', network: local.checked ? '0' : '1', prefix: '1'});
    try {
      for await (const result of lines(`search?${query}`, mine.signal)) {
        if (mine !== abort) return;
        if ('error' in result && !('id' in result)) {
          toast(result.error, 'error');
          continue;
        }
        kept.results.set(result.id, result);
        later();
      }
    } catch (error) {
      if (mine.signal.aborted) return;
      toast(error instanceof Refused ? error.message : 'The search was cut off', 'error');
    }
    kept.done = true;
    draw();
  }

  let due = false;
  function later() {
    if (due) return;
    due = true;
    requestAnimationFrame(() => { due = false; draw(); });
  }

  const cards = new Map();
  function draw() {
    const found = [...kept.results.values()].filter((one) => !verified.checked || one.verified)
      .sort((a, b) => b.score - a.score || (b.seeds ?? 0) - (a.seeds ?? 0) || (a.id < b.id ? -1 : 1)).slice(0, SHOWN);
    put(status, !kept.text ? '' : `${counted(found.length, 'result')}${kept.done ? '' : ', searching …'}`);
    status.classList.toggle('busy-text', Boolean(kept.text) && !kept.done);
    const there = new Set(found.map((one) => one.id));
    for (const [id, card] of cards) if (!there.has(id)) { card.element.remove(); cards.delete(id); }
    found.forEach((one, at) => {
      let card = cards.get(one.id);
      const print = JSON.stringify(one) + rows.has(one.id);
      if (!card || card.print !== print) {
        const element = make(one);
        card?.element.replaceWith(element);
        card = {element, print};
        cards.set(one.id, card);
      }
      if (list.children[at] !== card.element) list.insertBefore(card.element, list.children[at] ?? null);
    });
    if (!found.length && kept.text && kept.done) put(status, 'Nothing was found: fewer words may find more');
  }

  function make(one) {
    const here = rows.has(one.id);
    const get = here ? h('a.button', {href: `#/torrent/${one.id}`}, icon('check'), h('span', 'Here'))
      : h('button.button.primary', {type: 'button', onclick: async () => {
        get.disabled = true;
        const torrent = await api('POST', 'torrents', {source: one.magnet}).catch(() => null);
        get.disabled = false;
        if (torrent) { toast(`Added ${torrent.name}`); location.hash = `#/torrent/${torrent.id}`; }
      }}, icon('down'), h('span', 'Get'));
    get.setAttribute('aria-label', `${here ? 'Show' : 'Get'} ${clean(one.name)}`);
    const trust = {
      strong: ['verified strong', 'Verified', 'Its publisher signed the name, and the torrent itself bears it'],
      verified: ['verified', 'Verified', 'Its publisher signed this name'],
      unverified: ['unverified', 'Unverified', 'Anybody may have written this entry'],
    }[one.trust];
    const facts = [one.size === null ? '' : size(one.size), one.files ? counted(one.files, 'file') : '', one.published ? ago(one.published) : '',
      one.seeds !== null ? counted(one.seeds, 'seed') : one.peers !== null ? counted(one.peers, 'peer') : '', one.source === 'local' ? 'known here' : ''].filter(Boolean).join(' · ');
    return h('li.result', {class: `result${one.trusted ? ' trusted' : ''}`},
      h('div.result-main', h('h2.result-name', stranger(one.name)),
        h('p.result-facts', h('span', {class: `badge ${trust[0]}`, title: trust[2]}, one.verified && icon('check'), trust[1]), h('span', facts)),
        one.publisher && h('p.result-publisher', one.trusted ? 'by a publisher you follow ' : 'by ', h('code', one.publisher.slice(0, 12)),
          !isReadOnly() && [
            h('button.link', {type: 'button', onclick: () => judge(one.publisher, one.trusted ? 'none' : 'trusted')}, one.trusted ? 'Unfollow' : 'Follow'),
            h('button.link', {type: 'button', onclick: () => judge(one.publisher, 'blocked')}, 'Block'),
          ])),
      get);
  }

  async function judge(key, trust) {
    const done = await api('POST', 'publishers', {key, trust}).catch(() => null);
    if (!done) return;
    for (const one of kept.results.values()) {
      if (one.publisher !== key) continue;
      if (trust === 'blocked') kept.results.delete(one.id);
      else one.trusted = trust === 'trusted';
    }
    toast({trusted: 'Followed: what it publishes comes first', none: 'Neither followed nor blocked', blocked: 'Blocked: it is not shown any more'}[trust]);
    draw();
    tellFollowing();
  }

  async function tellFollowing() {
    const [publishers, subscriptions, catalogue] = await Promise.all(['publishers', 'subscriptions', 'catalogue'].map((path) => api('GET', path, undefined, {quiet: true}).catch(() => null)));
    const link = h('input', {type: 'text', id: 'subscribe', placeholder: 'magnet:?xs=urn:btpk:…', spellcheck: 'false'});
    const subscribe = async (event) => {
      event.preventDefault();
      if (await api('POST', 'subscriptions', {link: link.value.trim()}).catch(() => null)) { toast('Subscribed'); tellFollowing(); }
    };
    following.replaceChildren(
      h('h2', {id: 'following-title'}, 'Publishers'),
      publishers?.length ? h('ul.plain', publishers.map((one) => h('li', h('span', {class: `badge ${one.trust === 'trusted' ? 'verified' : 'blocked'}`}, icon(one.trust === 'trusted' ? 'star' : 'block'), one.trust === 'trusted' ? 'Followed' : 'Blocked'),
        h('code', one.key.slice(0, 12)), !isReadOnly() && h('button.link', {type: 'button', onclick: () => judge(one.key, 'none')}, one.trust === 'trusted' ? 'Unfollow' : 'Unblock'))))
        : h('p.faint', 'Follow a publisher, and what it signs comes first.'),
      h('h2', 'Catalogues'),
      subscriptions?.length ? h('ul.plain', subscriptions.map((one) => h('li', stranger(one.title || one.id.slice(0, 12)), h('span.faint', one.error ? clean(one.error) : counted(one.torrents, 'torrent')))))
        : h('p.faint', 'Subscribe to a publisher’s catalogue, and all of it is searched here.'),
      isReadOnly() ? '' : h('form.row', {onsubmit: subscribe}, h('label.hidden', {for: 'subscribe'}, 'Link of a catalogue'), link, h('button.button', {type: 'submit'}, 'Subscribe')),
      catalogue ? h('p.faint.small', `This node knows ${counted(catalogue.torrents, 'torrent')}.`) : '',
    );
  }

  tellFollowing();
  if (text && text !== kept.text) {
    input.value = text;
    run(text);
  } else {
    input.value = kept.text;
    draw();
  }
  input.focus();
  return {title: 'Search', leave() { abort?.abort(); if (!kept.done) kept.text = ''; }};
}
