
// The ring of a strategy that exports one. It is fetched when the strategy or the members change, and drawn again when
// the eligibility of a backend changes, too.

const DRAWN_MAX = 2048;   // about the pixels of the circle; more arcs are drawn as this many equal ones, without marks
const LEGEND_MAX = 24;
const BANDS = { serves: [128, 26], owns: [106, 9], marks: [99, 91] };  // radius and width; marks from, to
const HUES = [255, 50, 155, 325, 95, 200, 20, 290];

const colours = new Map();  // the colour number of each present backend

/** The hue of a backend, on the ring and in the table. */
function hueOf(key) {
  if (!colours.has(key)) {
    const taken = new Set(colours.values());
    let free = 0;
    while (taken.has(free)) free++;
    colours.set(key, free);
  }
  const place = colours.get(key);
  return HUES[place] ?? Math.round(place * 137.508 % 360);
}

/** Frees the colours of removed backends. */
function forgetColours(now) {
  for (const key of colours.keys()) if (!now.of.has(key)) colours.delete(key);
}

function makeRing(pool) {
  const view = { of: null, asked: '', drawn: '' };
  view.svg = s('svg', { class: 'ring', viewBox: '-150 -150 300 300', role: 'img' });
  view.note = h('p', { class: 'dim' });
  view.legend = h('ul', { class: 'ring-legend', 'aria-label': `Parts of the ring of pool ${pool.name}` });
  view.element = h('div', { class: 'ring-box', hidden: '' }, view.svg, h('div', {}, h('h3', {}, 'Ring'), view.note, view.legend));
  return view;
}

/** Fetches the ring if the strategy or the members changed. If the result is not yet the one in force, the next tick
 *  fetches again. */
async function fetchRing(view, pool) {
  const wanted = pool.picker.join('.');
  if (view.asked || `${view.of?.strategy_instance}.${view.of?.members_epoch}` === wanted) return;
  view.asked = wanted;
  try {
    const response = await fetch(`/ring?pool=${encodeURIComponent(pool.name)}`);
    if (response.ok) {
      view.of = await response.json();
      draw();
    }
  } catch {
    // lb cannot be reached. The event stream reports that.
  }
  view.asked = '';
}

/** For every arc the index of the backend that gets its keys: the owner, or the next eligible one clockwise. */
function serversOf(arcs, isEligible) {
  const serves = new Array(arcs.length).fill(null);
  let next = null;
  for (let turn = 0; turn < 2; turn++) {
    for (let i = arcs.length - 1; i >= 0; i--) {
      if (isEligible[arcs[i][1]]) next = arcs[i][1];
      serves[i] = next;
    }
  }
  return serves;
}

/** The expected share of all requests of each backend, by index. */
function sharesOf(arcs, serves, length) {
  const shares = new Array(length).fill(0);
  arcs.forEach(([end, , requests], i) => {
    const begin = i ? arcs[i - 1][0] : arcs.at(-1)[0] - 1;
    if (serves[i] != null) shares[serves[i]] += requests ?? end - begin;
  });
  return shares;
}

/** Draws the ring. Returns each backend's expected share of the requests by id, or `null` without a ring. */
function drawRing(view, pool) {
  fetchRing(view, pool);
  const ring = view.of, arcs = ring?.arcs;
  const isThis = ring?.strategy === pool.strategy && (arcs || ring.problem);
  view.element.hidden = !isThis || !ring.backends.length;
  if (view.element.hidden) return null;
  if (!arcs) {
    text(view.note, `The strategy exports a ring that cannot be drawn: ${ring.problem}.`);
    view.svg.replaceChildren();
    return null;
  }
  const eligible = new Set(pool.backends.filter(backend => backend.eligible).map(backend => backend.id));
  const isEligible = ring.backends.map(id => eligible.has(id));
  const drawn = `${ring.strategy_instance}.${ring.members_epoch} ${isEligible}`;
  if (drawn !== view.drawn) {
    view.drawn = drawn;
    view.serves = serversOf(arcs, isEligible);
    view.shares = sharesOf(arcs, view.serves, ring.backends.length);
    paintRing(view, pool, isEligible);
  }
  return new Map(ring.backends.map((id, i) => [id, view.shares[i]]));
}

const place = (part, radius) => {
  const angle = 2 * Math.PI * part;
  return `${(radius * Math.sin(angle)).toFixed(3)} ${(-radius * Math.cos(angle)).toFixed(3)}`;
};

/** An arc from one part of the circle to another, clockwise. It is drawn as two halves: SVG draws no arc that ends where
 *  it begins, as a whole circle does. */
function bow(from, to, radius) {
  const middle = (from + to) / 2, turn = `A${radius} ${radius} 0 0 1 `;
  return `M${place(from, radius)}${turn}${place(middle, radius)}${turn}${place(to, radius)}`;
}

/** The parts to draw: the end of each part, and the index of its arc. */
function partsOf(arcs) {
  if (arcs.length <= DRAWN_MAX) return arcs.map(([end], i) => [end, i]);
  let at = 0;
  return Array.from({ length: DRAWN_MAX }, (_, part) => {
    while (at < arcs.length && arcs[at][0] < (part + .5) / DRAWN_MAX) at++;
    return [(part + 1) / DRAWN_MAX, at % arcs.length];
  });
}

/** One path for each backend, made of its parts; neighbouring parts are merged. `of` maps an arc to its backend. */
function bows(parts, of, length, radius) {
  const paths = new Array(length).fill('');
  let begin = parts.length ? parts.at(-1)[0] - 1 : 0;
  parts.forEach(([end, arc], i) => {
    const backend = of[arc];
    if (i + 1 < parts.length && of[parts[i + 1][1]] === backend) return;
    if (backend != null && end > begin) paths[backend] += bow(begin, end, radius);
    begin = end;
  });
  return paths;
}

function paintRing(view, pool, isEligible) {
  const { of: ring, serves, shares } = view, { arcs, backends } = ring;
  const owns = arcs.map(arc => arc[1]), parts = partsOf(arcs);
  const words = i => `${backends[i]}: ${percent(shares[i])}${isEligible[i] ? '' : ', gets no requests now'}`;
  const stroke = (paths, name, [, width]) => paths.map((d, i) => {
    if (!d) return '';
    const path = s('path', { d, class: `arc ${name}${isEligible[i] ? '' : ' out'}`, 'stroke-width': width });
    path.style.setProperty('--hue', hueOf(keyOf(pool, { id: backends[i] })));
    const title = s('title');
    title.textContent = words(i);
    path.append(title);
    return path;
  });
  const points = backends.map(() => '');
  if (arcs.length <= DRAWN_MAX) for (const [end, owner] of arcs) points[owner] += `M${place(end, BANDS.marks[0])}L${place(end, BANDS.marks[1])}`;
  const count = s('text', { class: 'ring-count', y: 2 }), unit = s('text', { class: 'ring-unit', y: 22 });
  count.textContent = number(arcs.length);
  unit.textContent = arcs.length === 1 ? 'point' : 'points';
  view.svg.replaceChildren(...stroke(bows(parts, serves, backends.length, BANDS.serves[0]), 'serves', BANDS.serves),
    ...stroke(bows(parts, owns, backends.length, BANDS.owns[0]), 'owns', BANDS.owns), ...stroke(points, 'points', [0, 1.5]), count, unit);
  view.svg.setAttribute('aria-label', `Ring of ${arcs.length} points. Parts: ${backends.slice(0, LEGEND_MAX).map((_, i) => words(i)).join('; ')}` +
    (backends.length > LEGEND_MAX ? '; and so on.' : '.'));
  text(view.note, 'Clockwise from the top. Wide band: the backend that gets a key at this position now. Narrow band: the owner of the ' +
    `position, pale while it gets no requests${arcs.length <= DRAWN_MAX ? '; the marks are its points' : ''}.`);
  const items = backends.slice(0, LEGEND_MAX).map((id, i) => h('li', { title: words(i) }, swatch(keyOf(pool, { id })), h('span', {}, id), h('b', {}, percent(shares[i]))));
  if (backends.length > LEGEND_MAX) items.push(h('li', { class: 'dim' }, `and ${backends.length - LEGEND_MAX} more, as in the table`));
  view.legend.replaceChildren(...items);
}

function swatch(key) {
  const square = h('i', { class: 'swatch', 'aria-hidden': 'true' });
  square.style.setProperty('--hue', hueOf(key));
  return square;
}
