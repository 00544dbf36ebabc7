// Pictures on canvas: a chart of speeds, the map of pieces, a swarm, the id space, a walk. Each is an
// object with its element and `draw`; colours are those of the style sheet.

import {h, rate} from './dom.js';

const calm = matchMedia('(prefers-reduced-motion: reduce)');

let colours = null;
export const recolour = () => { colours = null; };
export function colour(name) {
  colours ??= new Map();
  if (!colours.has(name)) {
    const probe = h('span', {hidden: true});
    probe.style.color = `var(--${name})`;
    document.body.append(probe);
    colours.set(name, getComputedStyle(probe).color);
    probe.remove();
  }
  return colours.get(name);
}

/** A canvas as large as its box, drawn in its own pixels. */
export class Canvas {
  constructor(label, paint, className = '') {
    this.element = h('canvas', {role: 'img', 'aria-label': label, class: `canvas ${className}`.trim()});
    this.paint = paint;
    this.due = false;
    this.moving = false;
    this.sizes = new ResizeObserver(() => this.draw());
    this.sizes.observe(this.element);
  }

  label(text) {
    if (this.element.getAttribute('aria-label') !== text) this.element.setAttribute('aria-label', text);
  }

  /** On the next frame, once. `paint` returns whether it moves on by itself. */
  draw() {
    if (this.due) return;
    this.due = true;
    requestAnimationFrame((now) => {
      this.due = false;
      if (!this.element.isConnected) return;
      const scale = devicePixelRatio || 1;
      const {clientWidth: width, clientHeight: height} = this.element;
      if (!width || !height) return;
      const [w, t] = [Math.round(width * scale), Math.round(height * scale)];
      if (this.element.width !== w || this.element.height !== t) {
        this.element.width = w;
        this.element.height = t;
      }
      const context = this.element.getContext('2d');
      context.setTransform(scale, 0, 0, scale, 0, 0);
      context.clearRect(0, 0, width, height);
      if (this.paint(context, width, height, now) && !calm.matches) this.draw();
    });
  }
}

/** A round number not below `value`: 1, 2 or 5, with zeros, of a unit; 8 KiB at least. */
function ceiling(value) {
  const least = Math.max(value, 8 * 1024);
  let unit = 1;
  while (unit * 1000 < least) unit *= 1024;
  for (const step of [1, 10, 100]) for (const times of [1, 2, 5]) if (step * times * unit >= least) return step * times * unit;
  return unit * 1024;
}

const LEAST = 60;

/** Speeds of the last five minutes. */
export function speedChart(get, className) {
  let top = 0;
  const chart = new Canvas('Speed over the last five minutes', (c, width, height) => {
    const {down, up} = get() ?? {down: [], up: []};
    const goal = ceiling(Math.max(1, ...down, ...up));
    top = top && Math.abs(goal - top) > goal * 0.01 ? top + (goal - top) * 0.25 : goal;
    c.font = '11px system-ui, sans-serif';
    // The numbers have a margin of their own, where no curve runs through them.
    const [left, right, bottom] = [0, width - Math.ceil(c.measureText('0.00 MiB/s').width) - 10, height - 4];
    c.strokeStyle = colour('line');
    c.lineWidth = 1;
    c.fillStyle = colour('faint');
    for (const part of [1, 0.5]) {
      const y = Math.round(bottom - part * (bottom - 18)) + 0.5;
      c.beginPath();
      c.moveTo(left, y);
      c.lineTo(right, y);
      c.stroke();
      c.textAlign = 'right';
      c.fillText(rate(goal * part), width, y + 4);
    }
    const curve = (values) => {
      const step = (right - left) / (Math.max(LEAST, down.length, up.length) - 1);
      c.beginPath();
      let [px, py] = [0, 0];
      values.forEach((value, place) => {
        const x = right - (values.length - 1 - place) * step;
        const y = bottom - Math.min(1.05, value / top) * (bottom - 18);
        if (place === 0) c.moveTo(x, y);
        else c.bezierCurveTo((px + x) / 2, py, (px + x) / 2, y, x, y);
        [px, py] = [x, y];
      });
      return right - (values.length - 1) * step;
    };
    for (const [values, name] of [[up, 'up'], [down, 'down']]) {
      if (values.length < 2) continue;
      const first = curve(values);
      c.lineTo(right, bottom);
      c.lineTo(first, bottom);
      const fade = c.createLinearGradient(0, 0, 0, height);
      fade.addColorStop(0, colour(`${name}-soft`));
      fade.addColorStop(1, 'transparent');
      c.fillStyle = fade;
      c.fill();
      curve(values);
      c.strokeStyle = colour(name);
      c.lineWidth = 2;
      c.lineJoin = 'round';
      c.stroke();
    }
    chart.label(`Speed over the last five minutes: now ${rate(down.at(-1) ?? 0)} down, ${rate(up.at(-1) ?? 0)} up`);
    return Math.abs(goal - top) > goal * 0.02;
  }, className);
  return chart;
}

const [UNWANTED, MISSING, BEGUN, HERE] = [0, 1, 2, 3];

/** The map of pieces, which fills. */
export function pieceMap() {
  let told = {count: 0, width: 1, states: [], share: [], availability: []};
  let since = [];
  let grid = {columns: 1, cell: 8};
  const map = new Canvas('Pieces', (c, width, height, now) => {
    const cells = told.states.length || Math.min(told.count, 4096);
    if (!cells) return false;
    let cell = Math.floor(Math.sqrt(width * height / cells));
    while (cell > 3 && Math.ceil(cells / Math.floor(width / cell)) * cell > height) cell -= 1;
    cell = Math.max(3, Math.min(22, cell));
    const columns = Math.max(1, Math.floor(width / cell));
    if (cells > columns) cell = Math.floor(10 * width / columns) / 10;
    grid = {columns, cell};
    const gap = cell > 14 ? 3 : cell > 8 ? 2 : 1;
    const round = cell > 8 ? cell / 5 : 0;
    const most = Math.max(1, ...told.availability);
    let moves = false;
    for (let place = 0; place < cells; place += 1) {
      const x = (place % columns) * cell;
      const y = Math.floor(place / columns) * cell;
      const state = told.states[place] ?? MISSING;
      const shade = (name, alpha) => {
        c.globalAlpha = alpha;
        c.fillStyle = colour(name);
        c.beginPath();
        c.roundRect(x, y, cell - gap, cell - gap, round);
        c.fill();
      };
      if (state === HERE) {
        shade('down', 1);
        const age = now - (since[place] ?? -1e9);
        if (age < 900) { shade('flash', 1 - age / 900); moves = true; }
      } else if (state === UNWANTED) shade('line', 0.55);
      else {
        const available = told.availability[place] ?? 0;
        shade(available ? 'cell' : 'line', available ? 0.35 + 0.5 * available / most : 1);
        if (told.share[place]) shade('down', 0.85 * told.share[place] / 255);
        if (state === BEGUN) {
          shade('busy', 0.55 + 0.35 * Math.sin(now / 260 + place));
          moves = true;
        }
      }
    }
    c.globalAlpha = 1;
    return moves;
  }, 'pieces');
  map.show = (next) => {
    const now = performance.now();
    const same = told.count === next.count && told.states.length === next.states.length;
    since = Array.from(next.states, (state, place) => {
      if (same && state === HERE && told.states[place] !== HERE) return now;
      return same ? since[place] : undefined;
    });
    told = next;
    const here = next.states.filter((state) => state === HERE).length;
    map.label(`Map of ${next.count} pieces: ${Math.round(100 * here / Math.max(1, next.states.length))} % are here`);
    map.draw();
  };
  map.at = (x, y) => {
    const place = Math.floor(y / grid.cell) * grid.columns + Math.floor(x / grid.cell);
    if (x / grid.cell >= grid.columns || !(place in told.states)) return null;
    const first = place * told.width;
    const last = Math.min(told.count, first + told.width) - 1;
    const name = told.width === 1 ? `Piece ${first}` : `Pieces ${first} to ${last}`;
    const state = ['not wanted', 'missing', 'on its way', 'here'][told.states[place]];
    return `${name}: ${state}, at ${told.availability[place] ?? 0} peers`;
  };
  return map;
}

const turn = (text) => {
  let hash = 2166136261;
  for (const letter of text) hash = Math.imul(hash ^ letter.charCodeAt(0), 16777619);
  hash = Math.imul(hash ^ (hash >>> 15), 2246822507);
  return ((hash ^ (hash >>> 13)) >>> 0) / 2 ** 32;
};

/** Us in the middle, and who is connected around: the nearer the more they have, and what flows. */
export function swarm() {
  let [peers, progress] = [[], 0];
  const places = new Map();
  const picture = new Canvas('The swarm', (c, width, height, now) => {
    const [cx, cy] = [width / 2, height / 2];
    const reach = Math.min(width / 2, height / 2) - 22;
    let moves = false;
    c.strokeStyle = colour('line');
    c.lineWidth = 1;
    for (const share of [1, 0.7, 0.4]) {
      c.beginPath();
      c.ellipse(cx, cy, reach * share * Math.min(1.9, width / height), reach * share, 0, 0, 7);
      c.stroke();
    }
    const wide = Math.min(1.9, width / height);
    const most = Math.max(64 * 1024, ...peers.map((peer) => peer.down + peer.up));
    peers.forEach((peer, number) => {
      const goal = {angle: (number + 0.35 * turn(peer.address)) / Math.max(1, peers.length) * 2 * Math.PI - 1.2, far: 1 - 0.6 * peer.progress};
      const at = places.get(peer.address) ?? {angle: goal.angle, far: 1.15};
      const step = calm.matches ? 1 : 0.08;
      at.angle += (goal.angle - at.angle) * step;
      at.far += (goal.far - at.far) * step;
      if (Math.abs(goal.far - at.far) + Math.abs(goal.angle - at.angle) > 0.004) moves = true;
      places.set(peer.address, at);
      const x = cx + Math.cos(at.angle) * reach * at.far * wide;
      const y = cy + Math.sin(at.angle) * reach * at.far;
      for (const [speed, name, way] of [[peer.down, 'down', -1], [peer.up, 'up', 1]]) {
        c.strokeStyle = colour(speed ? name : 'line');
        c.globalAlpha = speed ? 0.5 : 0.6;
        c.lineWidth = speed ? 1 + 3 * Math.sqrt(speed / most) : 1;
        c.setLineDash(peer.transport === 'utp' ? [2, 5] : []);
        const bend = way * 0.12;
        const [mx, my] = [(cx + x) / 2 - (y - cy) * bend, (cy + y) / 2 + (x - cx) * bend];
        c.beginPath();
        c.moveTo(cx, cy);
        c.quadraticCurveTo(mx, my, x, y);
        c.stroke();
        c.setLineDash([]);
        if (!speed) continue;
        moves = true;
        c.globalAlpha = 1;
        c.fillStyle = colour(name);
        const beads = 1 + Math.round(3 * speed / most);
        for (let bead = 0; bead < beads; bead += 1) {
          let t = (now / (2200 - 1200 * speed / most) + bead / beads + turn(peer.address)) % 1;
          if (way < 0) t = 1 - t;
          const u = 1 - t;
          c.beginPath();
          c.arc(u * u * cx + 2 * u * t * mx + t * t * x, u * u * cy + 2 * u * t * my + t * t * y, 2.2, 0, 7);
          c.fill();
        }
      }
      c.globalAlpha = 1;
      disc(c, x, y, 6.5, peer.progress);
    });
    for (const address of places.keys()) if (!peers.some((peer) => peer.address === address)) places.delete(address);
    disc(c, cx, cy, 15, progress, 'busy');
    return moves;
  }, 'swarm');
  function disc(c, x, y, r, share, name = 'down') {
    c.fillStyle = colour('panel');
    c.beginPath();
    c.arc(x, y, r + 2, 0, 7);
    c.fill();
    c.fillStyle = colour('cell');
    c.beginPath();
    c.arc(x, y, r, 0, 7);
    c.fill();
    c.fillStyle = colour(name);
    c.beginPath();
    c.moveTo(x, y);
    c.arc(x, y, r, -Math.PI / 2, -Math.PI / 2 + 2 * Math.PI * share);
    c.fill();
  }
  picture.show = (now, share) => {
    [peers, progress] = [now.slice(0, 60), share];
    const seeds = now.filter((peer) => peer.progress >= 1).length;
    picture.label(`Picture of the swarm: ${now.length} connected, ${seeds} of them seeds`);
    picture.draw();
  };
  return picture;
}

const whole = (id) => parseInt(id.slice(0, 13), 16) / 2 ** 52;

/** All ids as a circle, from 0 at the top: ours, those of contacts, and a lookup on its way. */
export function idRing() {
  let [own, contacts, walk] = ['0', [], null];
  let shownAt = 0;
  const ring = new Canvas('The id space', (c, width, height, now) => {
    const [cx, cy] = [width / 2, height / 2];
    const r = Math.min(width, height) / 2 - 26;
    const place = (id, far = r) => {
      const angle = whole(id) * 2 * Math.PI - Math.PI / 2;
      return [cx + Math.cos(angle) * far, cy + Math.sin(angle) * far];
    };
    c.lineWidth = 10;
    c.strokeStyle = colour('groove');
    c.beginPath();
    c.arc(cx, cy, r, 0, 7);
    c.stroke();
    c.fillStyle = colour('faint');
    c.font = '10px ui-monospace, monospace';
    c.textAlign = 'center';
    c.textBaseline = 'middle';
    for (let digit = 0; digit < 16; digit += 2) {
      const [x, y] = place(`${digit.toString(16)}000000000000`, r + 16);
      c.fillText(`${digit.toString(16)}…`, x, y);
    }
    let moves = false;
    if (walk) {
      const shown = walk.running ? Infinity : (now - shownAt) / 2200 * walk.steps.length;
      moves = walk.running || shown < walk.steps.length;
      const at = new Map(walk.steps.map((step) => [step[0], step]));
      for (const [number, [id, , hops, , outcome, referrer]] of walk.steps.entries()) {
        if (number > shown) break;
        const [x, y] = place(id);
        const [fx, fy] = referrer && at.has(referrer) ? place(referrer) : place(own);
        c.strokeStyle = colour(outcome === 'failed' ? 'faint' : 'busy');
        c.globalAlpha = outcome === 'failed' ? 0.35 : Math.min(1, 0.25 + 0.14 * hops);
        c.lineWidth = outcome === 'answered' ? 1.4 : 1;
        c.setLineDash(outcome === 'answered' ? [] : [3, 4]);
        c.beginPath();
        c.moveTo(fx, fy);
        c.quadraticCurveTo(cx + (fx + x - 2 * cx) * 0.12, cy + (fy + y - 2 * cy) * 0.12, x, y);
        c.stroke();
        c.setLineDash([]);
      }
      c.globalAlpha = 1;
    }
    for (const [id, , quality] of contacts) {
      const [x, y] = place(id);
      c.fillStyle = colour(['bad', 'doubt', 'down'][quality]);
      c.beginPath();
      c.arc(x, y, quality === 2 ? 3.2 : 2.6, 0, 7);
      c.fill();
    }
    if (walk) {
      for (const [id, , , , outcome] of walk.steps) {
        if (outcome !== 'answered') continue;
        const [x, y] = place(id);
        c.fillStyle = colour('busy');
        c.beginPath();
        c.arc(x, y, 2.2, 0, 7);
        c.fill();
      }
      const [x, y] = place(walk.target);
      c.strokeStyle = colour('up');
      c.lineWidth = 2;
      for (const far of [5, 9 + (walk.running ? 2 * Math.sin(now / 200) : 0)]) {
        c.beginPath();
        c.arc(x, y, far, 0, 7);
        c.stroke();
      }
    }
    const [x, y] = place(own);
    c.fillStyle = colour('busy');
    c.strokeStyle = colour('panel');
    c.lineWidth = 3;
    c.beginPath();
    c.arc(x, y, 8, 0, 7);
    c.fill();
    c.stroke();
    const [lx, ly] = place(own, r - 26);
    c.fillStyle = colour('text');
    c.font = '600 12px system-ui, sans-serif';
    c.fillText('us', lx, ly);
    return moves;
  }, 'ring');
  ring.show = (id, known, walking) => {
    if (walking && walking.number !== walk?.number) shownAt = performance.now();
    [own, contacts, walk] = [id, known, walking];
    ring.label(`The id space as a circle: we are at ${id.slice(0, 6)}, with ${known.length} contacts around`);
    ring.draw();
  };
  return ring;
}

/** How many leading bits two ids share. */
export function shared(one, other) {
  for (let at = 0; at < 40; at += 1) {
    const different = parseInt(one[at], 16) ^ parseInt(other[at], 16);
    if (different) return 4 * at + Math.clz32(different) - 28;
  }
  return 160;
}

/** A lookup, hop by hop: each node that was queried, and upwards how near to the target it is. */
export function walkChart() {
  let walk = null;
  let shownAt = 0;
  const chart = new Canvas('A lookup on its way', (c, width, height, now) => {
    if (!walk || !walk.steps.length) return false;
    const bits = walk.steps.map((step) => shared(step[0], walk.target));
    const most = Math.max(8, ...bits) + 1;
    const span = Math.max(walk.seconds, 0.05, walk.steps.at(-1)[3]);
    const place = (number, near) => [14 + (number + 1) / (walk.steps.length + 1) * (width - 84), height - 22 - near / most * (height - 44)];
    c.font = '11px system-ui, sans-serif';
    c.fillStyle = colour('faint');
    c.strokeStyle = colour('line');
    c.lineWidth = 1;
    const step = Math.max(2, Math.ceil(most / 5));
    for (let near = 0; near <= most; near += step) {
      const y = Math.round(place(0, near)[1]) + 0.5;
      c.beginPath();
      c.moveTo(0, y);
      c.lineTo(width - 54, y);
      c.stroke();
      c.fillText(`${near} bits`, width - 48, y + 4);
    }
    c.fillText('0 s', 8, height - 4);
    c.textAlign = 'right';
    c.fillText(`${span.toFixed(2)} s`, width - 54, height - 4);
    c.textAlign = 'left';
    const sofar = walk.running ? Infinity : (now - shownAt) / 2200 * walk.steps.length;
    const at = new Map();
    walk.steps.forEach((one, number) => at.set(one[0], place(number, bits[number])));
    walk.steps.forEach(([id, , , , outcome, referrer], number) => {
      if (number > sofar) return;
      const [x, y] = at.get(id);
      const from = at.get(referrer) ?? [14, height - 22];
      c.strokeStyle = colour(outcome === 'answered' ? 'busy' : 'faint');
      c.globalAlpha = outcome === 'answered' ? 0.75 : 0.35;
      c.beginPath();
      c.moveTo(...from);
      c.bezierCurveTo((from[0] + x) / 2, from[1], (from[0] + x) / 2, y, x, y);
      c.stroke();
      c.globalAlpha = 1;
      c.fillStyle = colour({answered: 'down', failed: 'bad', waiting: 'doubt'}[outcome]);
      c.beginPath();
      c.arc(x, y, outcome === 'answered' ? 4.2 : 3, 0, 7);
      c.fill();
    });
    return walk.running || sofar < walk.steps.length;
  }, 'walk');
  chart.show = (next) => {
    if (next && next.number !== walk?.number) shownAt = performance.now();
    walk = next;
    if (next) chart.label(`A lookup for ${next.target.slice(0, 6)}: ${next.asked} queried, ${next.replies} responded, ${next.hops} hops`);
    chart.draw();
  };
  return chart;
}
