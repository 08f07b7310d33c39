
'use strict';
// Draws what `/events` tells, once a second. Elements are made once and then only their text and geometry change, so that focus,
// selection and layout stay where they are.

const WINDOW_MS = 180e3;  // what the charts show
const SHARE_MS = 10e3;    // over what shares are taken
const GAP_MS = 3500;      // a longer silence is drawn as a gap
const LOG_MAX = 12;
const LEAST_MS = .1;      // where the axis of latency begins
const SHIPPED = ['round_robin', 'least_connections', 'consistent_hash'];

const $ = id => document.getElementById(id);
const ticks = [];  // oldest first, each with what it says of the second before it
const marks = [];
const pools = new Map();
let source, heard = 0, drawing = false, cursor = null, toastTimer;

// ── small helpers ──

function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

function s(name, attributes = {}) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name);
  set(element, attributes);
  return element;
}

function set(element, attributes) {
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
}

function text(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

const rate = n => n == null ? '–' : n === 0 ? '0' : n < 10 ? n.toFixed(1) : n < 10e3 ? Math.round(n).toLocaleString('en') :
  n < 1e6 ? (n / 1e3).toFixed(1) + 'k' : (n / 1e6).toFixed(2) + 'M';
/** Without what stands before it anyway. */
const bare = sentence => sentence.replace('<Error> ', '').replace(/ \[stage \w+\]$/, '');
const percent = n => (100 * n).toFixed(1) + ' %';

/** Number and unit of a duration. */
function time(ms) {
  if (ms == null) return ['–', 'ms'];
  if (ms < 10) return [ms.toFixed(2), 'ms'];
  if (ms < 100) return [ms.toFixed(1), 'ms'];
  return ms < 1000 ? [ms.toFixed(0), 'ms'] : [(ms / 1000).toFixed(2), 's'];
}

function span(seconds) {
  const units = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
  const at = units.findIndex(([length]) => seconds >= length);
  if (at < 0) return '0 s';
  const [length, unit] = units[at], next = units[at + 1];
  const rest = next && Math.floor(seconds % length / next[0]);
  return `${Math.floor(seconds / length)} ${unit}` + (rest ? ` ${rest} ${next[1]}` : '');
}

/** The least of 1, 2, 5 times a power of ten that is not less. */
function ceiling(n) {
  const power = 10 ** Math.floor(Math.log10(n));
  return [1, 2, 5, 10].map(step => step * power).find(step => step >= n * .999);
}

const CIRCLE = 'M5 1a4 4 0 1 1 0 8a4 4 0 1 1 0-8z';
const SHAPES = {
  swap: 'M5 0 10 5 5 10 0 5z', rollback: 'M10 0v10L0 5z', down: 'M0 1h10L5 10z', up: 'M0 9h10L5 0z', refused: 'M0 0h10v10H0z',
  change: CIRCLE, proven: CIRCLE,
};

function shape(kind) {
  const svg = s('svg', { viewBox: '0 0 10 10', 'aria-hidden': 'true' });
  svg.append(s('path', { d: SHAPES[kind] }));
  return svg;
}

// ── what comes in ──

const keyOf = (pool, backend) => pool.name + '\n' + backend.id;

function take(tick) {
  const before = ticks.at(-1);
  // the past is told again to who comes back
  if (before && tick.at <= before.at) return;
  if (before && tick.uptime_s < before.uptime_s - 1) {
    ticks.length = 0;
    mark(tick.at, 'change', 'lb was started again');
  } else if (before) {
    compare(before, tick);
  }
  const last = ticks.at(-1);
  const seconds = last && tick.at - last.at < GAP_MS ? (tick.at - last.at) / 1000 : 0;
  const grown = (now, then) => seconds > 0 && then != null ? Math.max(0, now - then) / seconds : null;
  tick.rate = grown(tick.requests, last?.requests);
  tick.error_rate = grown(tick.errors, last?.errors);
  tick.of = new Map();
  for (const pool of tick.pools) for (const backend of pool.backends) {
    const then = last?.of.get(keyOf(pool, backend));
    const now = { responses: backend.responses, errors: backend.errors };
    now.rate = grown(now.responses, then?.responses);
    now.error_rate = grown(now.errors, then?.errors);
    tick.of.set(keyOf(pool, backend), now);
  }
  ticks.push(tick);
  while (tick.at - ticks[0].at > WINDOW_MS + 5e3) ticks.shift();
  if (!drawing) {
    drawing = true;
    requestAnimationFrame(() => { drawing = false; draw(); });
  }
}

function mark(at, kind, sentence) {
  marks.push({ at, kind, sentence });
  if (marks.length > 40) marks.shift();
  marks.changed = true;
}

/** What is different is what happened in between. */
function compare(before, now) {
  const say = (kind, sentence) => mark(now.at, kind, sentence);
  for (const pool of now.pools) {
    const old = before.pools.find(old => old.name === pool.name);
    if (!old) { say('change', `pool ${pool.name} is new`); continue; }
    const [was, is] = [old, pool].map(pool => `${pool.strategy} ${pool.version}`);
    for (const [kind, count] of Object.entries(pool.swaps)) {
      if (count <= (old.swaps[kind] ?? 0)) continue;
      if (kind === 'rollback') say('rollback', `${pool.name}: rolled back from ${was} to ${is}`);
      else if (kind === 'strategy') say('swap', `${pool.name}: ${was} → ${is}`);
      else say('swap', `${pool.name}: ${is} with ${kind === 'options' ? 'other options' : 'other bytes'}`);
    }
    if (old.standing === 'on_probation' && pool.standing === 'proven' && was === is) say('proven', `${pool.name}: ${is} is proven`);
    for (const backend of pool.backends) {
      const then = old.backends.find(then => then.id === backend.id);
      const who = now.pools.length > 1 ? `${backend.id} (${pool.name})` : backend.id;
      if (!then) say('up', `${who} joined`);
      else {
        const why = backend.reason ? `: ${backend.reason}` : '';
        if (then.healthy && !backend.healthy) say('down', `${who} is down${why}`);
        else if (!then.healthy && backend.healthy) say('up', `${who} is up`);
        // a replica that is started again at once is up again within a tick
        else if (backend.downs > then.downs && backend.healthy) say('down', `${who} went down and is up again`);
        if (then.draining !== backend.draining) say('change', `${who} ${backend.draining ? 'drains' : 'takes requests again'}`);
        if (then.weight !== backend.weight) say('change', `${who}: weight ${then.weight} → ${backend.weight}`);
      }
    }
    for (const then of old.backends) {
      if (!pool.backends.some(backend => backend.id === then.id)) say('down', `${then.id} left ${pool.name}`);
    }
  }
  for (const old of before.pools) if (!now.pools.some(pool => pool.name === old.name)) say('change', `pool ${old.name} is gone`);
  if (now.reload.refused > before.reload.refused) {
    const last = now.reload.last;
    say('refused', `reload refused${last?.stage ? ` at ${last.stage}` : ''}${last?.reason ? `: ${bare(last.reason)}` : ''}`);
  }
  if (now.stopping && !before.stopping) say('change', 'lb is stopping: running requests finish');
}

// ── drawing ──

function draw() {
  const now = ticks.at(-1);
  text($('about'), `${now.version} · ${now.workers} worker${now.workers === 1 ? '' : 's'} · generation ${now.generation} · up ${span(now.uptime_s)}`);
  document.title = `lb · ${rate(now.rate)}/s`;
  text($('n-requests'), rate(now.rate));
  text($('n-errors'), rate(now.error_rate));
  $('n-errors').classList.toggle('bad', now.error_rate > 0);
  for (const p of ['p50', 'p99']) {
    const [number, unit] = time(now[p + '_ms']);
    text($('n-' + p), number);
    text($('u-' + p), unit);
  }
  text($('n-flight'), now.in_flight.toLocaleString('en'));
  $('logout').hidden = !now.guarded;
  drawReload(now.reload);
  drawChart(now);
  drawPools(now);
  if (marks.changed) drawLog();
}

function drawReload(reload) {
  text($('differs'), reload.differs.length ? `Not as the files say: ${reload.differs.join('; ')}` : '');
  $('differs').hidden = !reload.differs.length;
  const last = reload.last;
  const how = !last ? '' : last.result ? last.result.replace('_', ' ') : 'refused';
  text($('last-reload'), reload.running ? 'a reload is running' : last ? `last reload: ${how}, by ${last.by}, generation ${last.generation}` : 'no reload yet');
}

const chart = { svg: $('chart'), lines: {}, made: false };

function makeChart() {
  const { svg, lines } = chart;
  chart.made = true;
  chart.grid = s('g');
  chart.marks = s('g');
  svg.append(chart.grid);
  for (const name of ['req', 'err']) svg.append(lines['a-' + name] = s('path', { class: 'a-' + name }));
  for (const name of ['req', 'err', 'p50', 'p99']) svg.append(lines[name] = s('path', { class: `l l-${name}` }));
  svg.append(chart.marks, chart.cursor = s('line', { class: 'cursor', visibility: 'hidden' }));
}

/** The path of a series, broken where there is nothing. */
function path(points) {
  let d = '', pen = 'M';
  for (const point of points) {
    if (point) d += `${pen}${point[0].toFixed(1)} ${point[1].toFixed(1)}`;
    pen = point ? 'L' : 'M';
  }
  return d;
}

/** The same, filled down to `floor`. */
function area(points, floor) {
  let d = '', run = [];
  for (const point of [...points, null]) {
    if (point) { run.push(point); continue; }
    if (run.length > 1) d += `${path(run)}L${run.at(-1)[0].toFixed(1)} ${floor}L${run[0][0].toFixed(1)} ${floor}z`;
    run = [];
  }
  return d;
}

function drawChart(now) {
  if (!chart.made) makeChart();
  const { svg, lines, grid } = chart;
  const width = svg.clientWidth || 600, top = 18, middle = 176, gap = 22, bottom = 292;
  const x = at => width - (now.at - at) / WINDOW_MS * width;
  const most = of => ticks.reduce((most, tick) => Math.max(most, of(tick) ?? 0), 0);
  const rates = ceiling(Math.max(10, most(tick => tick.rate)));
  // logarithmic, as a median of half a millisecond and a tail of a second belong on one picture
  const decades = Math.max(1, Math.ceil(Math.log10(Math.max(10, most(tick => tick.p99_ms)) / LEAST_MS) - .001));
  const upper = value => middle - value / rates * (middle - top);
  const lower = value => bottom - Math.max(0, Math.log10(value / LEAST_MS)) / decades * (bottom - middle - gap);
  const series = (of, y) => {
    const points = [];
    ticks.forEach((tick, i) => {
      if (i && tick.at - ticks[i - 1].at > GAP_MS) points.push(null);
      const value = of(tick);
      points.push(value == null ? null : [x(tick.at), y(value)]);
    });
    return points;
  };
  const requests = series(tick => tick.rate, upper);
  // an error is to be seen however many requests go well
  const errors = series(tick => tick.error_rate, value => value > 0 ? Math.min(middle - 5, upper(value)) : middle);
  const hasErrors = most(tick => tick.error_rate) > 0;
  lines.req.setAttribute('d', path(requests));
  lines['a-req'].setAttribute('d', area(requests, middle));
  lines.err.setAttribute('d', hasErrors ? path(errors) : '');
  lines['a-err'].setAttribute('d', hasErrors ? area(errors, middle) : '');
  lines.p50.setAttribute('d', path(series(tick => tick.p50_ms, lower)));
  lines.p99.setAttribute('d', path(series(tick => tick.p99_ms, lower)));

  const level = (y, words) => {
    const line = s('line', { class: 'grid', x1: 0, x2: width, y1: y, y2: y });
    const word = s('text', { x: 0, y: y - 4 });
    word.textContent = words;
    return words ? [line, word] : [line];
  };
  const words = ms => time(ms).join(' ');
  const label = ms => ms < 1000 ? `${ms} ms` : `${ms / 1000} s`;
  const minutes = ['3 min ago', '2 min', '1 min', 'now'].map((label, i) => {
    const word = s('text', { x: width * i / 3, y: 310, 'text-anchor': ['start', 'middle', 'middle', 'end'][i] });
    word.textContent = label;
    return word;
  });
  grid.replaceChildren(...level(upper(rates), `${rate(rates)}/s`), ...level(upper(rates / 2), `${rate(rates / 2)}/s`), ...level(middle, ''),
    ...Array.from({ length: decades + 1 }, (_, i) => level(lower(LEAST_MS * 10 ** i), i ? label(LEAST_MS * 10 ** i) : '')).flat(), ...minutes);

  const shown = marks.filter(mark => now.at - mark.at < WINDOW_MS && mark.kind !== 'proven');
  chart.marks.replaceChildren(...shown.map(mark => {
    const group = s('g', { class: `mark k-${mark.kind}` }), at = Math.min(width - 1, Math.max(1, x(mark.at)));
    const title = s('title');
    title.textContent = mark.sentence;
    group.append(title, s('line', { x1: at, x2: at, y1: 12, y2: bottom }),
      s('path', { d: SHAPES[mark.kind], transform: `translate(${Math.min(width - 10, Math.max(0, at - 5))} 0)` }));
    return group;
  }));
  drawCursor(now, x, width, bottom);
  const told = `${rate(now.rate)} requests and ${rate(now.error_rate)} errors a second, median ${words(now.p50_ms)}, slowest percent ${words(now.p99_ms)}`;
  if (!chart.told || now.at - chart.told > 10e3) {
    chart.told = now.at;
    svg.setAttribute('aria-label', `Last three minutes. Now ${told}.`);
  }
}

function drawCursor(now, x, width, bottom) {
  if (cursor == null) {
    chart.cursor.setAttribute('visibility', 'hidden');
    text($('readout'), '');
    return;
  }
  const at = now.at - (1 - cursor) * WINDOW_MS;
  const near = ticks.reduce((best, tick) => Math.abs(tick.at - at) < Math.abs(best.at - at) ? tick : best);
  const place = x(near.at);
  set(chart.cursor, { visibility: 'visible', x1: place, x2: place, y1: 12, y2: bottom });
  text($('readout'), `${clock(near.at)}  ${rate(near.rate)}/s, ${rate(near.error_rate)} errors/s, p50 ${time(near.p50_ms).join(' ')}, p99 ${time(near.p99_ms).join(' ')}`);
}

const clock = at => new Date(at).toLocaleTimeString('en-GB');

function drawLog() {
  // only what is new is put in, so that a screen reader says it once
  const fresh = marks.filter(mark => !mark.logged).slice(-LOG_MAX);
  marks.changed = false;
  $('log-empty')?.remove();
  for (const mark of fresh) {
    mark.logged = true;
    const item = h('li', { class: 'k-' + mark.kind }, h('time', {}, clock(mark.at)), shape(mark.kind));
    const words = h('span', {}, mark.sentence);
    words.style.color = 'var(--ink)';
    item.append(words);
    $('log').prepend(item);
  }
  while ($('log').children.length > LOG_MAX) $('log').lastChild.remove();
}

// ── pools and backends ──

function drawPools(now) {
  for (const [name, view] of pools) if (!now.pools.some(pool => pool.name === name)) { view.element.remove(); pools.delete(name); }
  const known = new Set([...SHIPPED, ...now.pools.map(pool => pool.strategy)]);
  if ($('strategies').children.length !== known.size) $('strategies').replaceChildren(...[...known].map(value => h('option', { value })));
  for (const pool of now.pools) {
    if (!pools.has(pool.name)) {
      pools.set(pool.name, makePool(pool));
      $('pools').append(pools.get(pool.name).element);
    }
    drawPool(pools.get(pool.name), pool, now);
  }
}

function makePool(pool) {
  const view = { rows: new Map() };
  const id = 'pool-' + pools.size;
  const field = h('input', { list: 'strategies', 'aria-label': `Strategy for pool ${pool.name}`, placeholder: 'another strategy', required: '', autocomplete: 'off', spellcheck: 'false' });
  view.put = h('button', { type: 'submit', title: 'In force until the next reload' }, 'Put in charge');
  view.back = h('button', { type: 'button', onclick: () => view.back.ariaDisabled === 'true' ? toast(view.back.title, true) : act(view.back, `/rollback?pool=${encodeURIComponent(pool.name)}`, null, `${pool.name}: rolled back`) }, 'Roll back');
  const form = h('form', { onsubmit: event => {
    event.preventDefault();
    const name = field.value.trim();
    act(view.put, '/reload', { pool: pool.name, strategy: { name } }, `${pool.name}: ${name} is in charge until the next reload`).then(ok => { if (ok) field.value = ''; });
  } }, field, view.put, view.back);
  view.what = h('span', { class: 'what' });
  view.standing = h('span', { class: 'chip' });
  view.overridden = h('span', { class: 'chip', hidden: '', 'data-s': 'warn', title: 'Another strategy than the file says, until the next reload' }, 'override');
  const head = ['Backend', 'Health', 'Share of expected', 'Requests/s', 'Last 3 min', 'In flight', 'p99', 'Errors/s', 'Weight', ''];
  const right = [3, 5, 6, 7];
  view.table = h('div', { role: 'table', 'aria-labelledby': id }, h('div', { role: 'row', class: 'row head' }, ...head.map((word, i) =>
    h('div', { role: 'columnheader', class: right.includes(i) ? 'r' : i === 4 ? 'sparkcell' : '' }, word || h('span', { 'aria-label': 'Action' })))));
  view.empty = h('p', { class: 'dim', hidden: '' }, 'No backends: POST /add launches or attaches some.');
  view.element = h('section', { class: 'card', 'aria-labelledby': id },
    h('div', { class: 'pool-head' }, h('h2', { id }, h('span', {}, 'pool '), pool.name), view.what, view.standing, view.overridden, form), view.table, view.empty);
  return view;
}

function chip(element, state, kind, words) {
  if (element.dataset.words === words) return;
  element.dataset.words = words;
  element.dataset.s = state;
  element.replaceChildren(shape(kind), words);
}

function drawPool(view, pool, now) {
  text(view.what, `${pool.strategy} ${pool.version}`);
  view.what.title = pool.sha256 ? `sha256 ${pool.sha256}` : '';
  const left = pool.probation_left_ms;
  if (pool.standing === 'proven') chip(view.standing, 'ok', 'change', 'proven');
  else if (pool.standing === 'failed') chip(view.standing, 'bad', 'refused', 'failed');
  else chip(view.standing, 'warn', 'swap', 'on probation' + (left != null ? `, ${Math.ceil(left / 1000)} s` : ''));
  // not `disabled`, which would take the focus away from who has just pressed it
  view.back.ariaDisabled = String(!pool.rollback_to);
  view.back.title = pool.rollback_to ? `Puts ${pool.rollback_to} back` : 'There is nothing to roll back to yet';
  view.overridden.hidden = !now.reload.overridden.includes(pool.name);
  view.empty.hidden = pool.backends.length > 0;

  const then = ticks.find(tick => now.at - tick.at <= SHARE_MS + 500);
  const grown = backend => Math.max(0, backend.responses - (then.of.get(keyOf(pool, backend))?.responses ?? backend.responses));
  const all = pool.backends.reduce((sum, backend) => sum + grown(backend), 0);
  const weights = pool.backends.reduce((sum, backend) => sum + (backend.eligible ? backend.weight : 0), 0);
  const ids = new Set(pool.backends.map(backend => backend.id));
  for (const [id, row] of view.rows) if (!ids.has(id)) { row.element.remove(); view.rows.delete(id); }
  pool.backends.forEach((backend, i) => {
    if (!view.rows.has(backend.id)) view.rows.set(backend.id, makeRow(pool, backend));
    const row = view.rows.get(backend.id);
    if (view.table.children[i + 1] !== row.element) view.table.insertBefore(row.element, view.table.children[i + 1] ?? null);
    const expected = weights && backend.eligible ? backend.weight / weights : 0;
    drawRow(row, pool, backend, now, all ? grown(backend) / all : null, expected);
  });
}

function makeRow(pool, backend) {
  const row = {}, cell = (label, extra = 'r') => h('div', { role: 'cell', class: extra, 'data-label': label });
  const at = `/backends/${encodeURIComponent(backend.id)}`, query = `?pool=${encodeURIComponent(pool.name)}`;
  row.address = h('span');
  row.who = h('div', { role: 'cell', class: 'who' }, h('b', { title: backend.id }, backend.id), row.address);
  row.state = h('span', { class: 'chip' });
  row.bar = h('div', { class: 'bar', 'aria-hidden': 'true' }, h('i'), h('u'));
  row.share = h('span');
  row.rate = cell('Requests/s');
  row.spark = s('svg', { class: 'spark', viewBox: '0 0 180 28', preserveAspectRatio: 'none', 'aria-hidden': 'true' });
  row.spark.append(row.sparkArea = s('path', { class: 'a-req' }), row.sparkLine = s('path', { class: 'l' }));
  row.flight = cell('In flight');
  row.p99 = cell('p99');
  row.errors = cell('Errors/s', 'r errors');
  row.field = h('input', { type: 'number', min: 0, max: 256, step: 1, inputmode: 'numeric', 'aria-label': `Weight of ${backend.id}`, required: '' });
  row.set = h('button', { type: 'submit', 'aria-label': `Set the weight of ${backend.id}` }, 'Set');
  const weight = h('form', { onsubmit: event => {
    event.preventDefault();
    const value = row.field.valueAsNumber;
    act(row.set, `${at}/weight${query}`, { weight: value }, `${backend.id}: weight ${value}`).then(ok => { if (ok) row.touched = false; });
  } });
  weight.className = 'weight';
  weight.append(row.field, row.set);
  row.field.addEventListener('input', () => { row.touched = true; });
  row.act = h('button', { type: 'button', class: 'act', onclick: () => {
    const action = row.draining ? 'ready' : 'drain';
    act(row.act, `${at}/${action}${query}`, null, `${backend.id} ${row.draining ? 'takes requests again' : 'drains: no new requests for it'}`);
  } });
  const weightCell = h('div', { role: 'cell', class: 'weightcell' }, weight);
  row.element = h('div', { role: 'row', class: 'row' }, row.who, h('div', { role: 'cell', class: 'state' }, row.state),
    h('div', { role: 'cell', class: 'share' }, row.bar, row.share), row.rate, h('div', { role: 'cell', class: 'sparkcell' }, row.spark),
    row.flight, row.p99, row.errors, weightCell, h('div', { role: 'cell', class: 'actcell' }, row.act));
  return row;
}

function drawRow(row, pool, backend, now, share, expected) {
  const key = keyOf(pool, backend), of = now.of.get(key);
  text(row.address, `${backend.address} · ${backend.origin}`);
  if (!backend.healthy) chip(row.state, 'bad', 'down', 'down');
  else if (backend.draining) chip(row.state, 'warn', 'refused', backend.in_flight ? 'draining' : 'drained');
  else if (backend.weight === 0) chip(row.state, 'warn', 'refused', 'weight 0');
  else if (!backend.eligible) chip(row.state, 'warn', 'refused', 'waiting');
  else chip(row.state, 'ok', 'change', 'healthy');
  row.state.title = backend.reason ?? '';
  row.element.classList.toggle('off', !backend.eligible);
  row.bar.style.setProperty('--w', percent(share ?? 0).replace(' ', ''));
  row.bar.style.setProperty('--e', percent(expected).replace(' ', ''));
  text(row.share, share == null ? `– of ${percent(expected)}` : `${(100 * share).toFixed(1)} of ${percent(expected)}`);
  text(row.rate, rate(of.rate));
  text(row.flight, String(backend.in_flight));
  text(row.p99, backend.p99_ms == null ? '–' : time(backend.p99_ms).join(' '));
  text(row.errors, rate(of.error_rate));
  row.errors.classList.toggle('bad', of.error_rate > 0);
  if (!row.touched && document.activeElement !== row.field) row.field.value = backend.weight;
  row.draining = backend.draining;
  text(row.act, backend.draining ? 'Ready' : 'Drain');
  row.act.setAttribute('aria-label', `${backend.draining ? 'Let take requests again:' : 'Drain'} ${backend.id}`);
  const rates = ticks.map(tick => tick.of.get(key)?.rate);
  const most = Math.max(1, ...rates.map(value => value ?? 0));
  const points = ticks.map((tick, i) => rates[i] == null ? null : [180 - (now.at - tick.at) / 1e3, 26 - rates[i] / most * 24]);
  row.sparkLine.setAttribute('d', path(points));
  row.sparkArea.setAttribute('d', area(points, 28));
}

// ── what the operator asks for ──

async function act(button, path, body, done) {
  if (button.ariaBusy === 'true') return false;
  button.ariaBusy = 'true';
  try {
    const request = { method: 'POST' };
    if (body) Object.assign(request, { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } });
    const response = await fetch(path, request);
    if (response.status === 401) { location.reload(); return false; }
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) {
      const reason = bare(String(answer.message ?? `status ${response.status}`));
      toast(answer.stage ? `Refused at ${answer.stage}: ${reason}` : reason, true);
      return false;
    }
    const unchanged = answer.result === 'no_change' ? 'Nothing had changed.' : null;
    toast(unchanged ?? (answer.warnings?.length ? `${done}. ${answer.warnings.join(' ')}` : done), false);
    return true;
  } catch {
    toast('lb does not answer', true);
    return false;
  } finally {
    button.ariaBusy = 'false';
  }
}

function toast(sentence, failed) {
  clearTimeout(toastTimer);
  text($('toast-text'), sentence);
  $('toast').className = 'toast show' + (failed ? ' failed' : '');
  // a failure stays until it was seen
  if (!failed) toastTimer = setTimeout(hideToast, 6000);
}

function hideToast() { $('toast').className = 'toast'; }

function live(state, words) {
  $('live').dataset.state = state;
  text($('live-text'), words);
}

function connect() {
  source?.close();
  if (document.hidden) return;
  source = new EventSource('/events');
  source.addEventListener('tick', event => {
    const tick = JSON.parse(event.data);
    heard = Date.now();
    live(tick.stopping ? 'waiting' : 'live', tick.stopping ? 'stopping' : 'live');
    take(tick);
  });
  source.onerror = () => {
    live('lost', 'no connection');
    // the browser tries again by itself unless it was refused
    if (source.readyState !== EventSource.CLOSED) return;
    setTimeout(() => fetch('/status', { method: 'HEAD' }).then(
      response => response.status === 401 ? location.reload() : connect(), connect), 2000);
  };
}

// A page that nobody sees gives its connection back, as browsers have six for one address; what it misses is told when it is seen.
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) return connect();
  source.close();
  document.title = 'lb';
});

// a connection that died without a word
setInterval(() => {
  if (heard && Date.now() - heard > 5000 && $('live').dataset.state === 'live') live('lost', 'no news');
}, 1000);
$('reload').addEventListener('click', () => act($('reload'), '/reload', null, 'Reloaded: what the files say is in force'));
$('toast-close').addEventListener('click', hideToast);
addEventListener('keydown', event => { if (event.key === 'Escape') hideToast(); });
chart.svg.addEventListener('pointermove', event => {
  const box = chart.svg.getBoundingClientRect();
  cursor = (event.clientX - box.left) / box.width;
  if (ticks.length) drawChart(ticks.at(-1));
});
chart.svg.addEventListener('pointerleave', () => { cursor = null; if (ticks.length) drawChart(ticks.at(-1)); });
new ResizeObserver(() => { if (ticks.length) drawChart(ticks.at(-1)); }).observe(chart.svg);
connect();
