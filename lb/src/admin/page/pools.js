
// Pools and their backends. Elements are made once; afterwards only their text and geometry change. So focus, selection
// and layout stay.

const SHARE_MS = 10e3;  // shares are taken over this time, or since the pool's last change if that is later
const ROWS_MAX = 25;    // a larger pool is not shown whole
const ROWS_SHOWN = 20;  // its first rows, and all rows with errors or without eligibility, are shown

const pools = new Map();
let poolsMade = 0;
let offered = [];       // names that can be put in charge

function drawPools(now) {
  for (const [name, view] of pools) if (!now.pools.some(pool => pool.name === name)) { view.element.remove(); pools.delete(name); }
  forgetColours(now);
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
  const id = `pool-${++poolsMade}`;
  view.choice = h('select', { 'aria-label': `Strategy for pool ${pool.name}`, required: '', onfocus: fetchStrategies, onpointerenter: fetchStrategies });
  view.put = h('button', { type: 'submit', title: 'In force until the next reload' }, 'Put in charge');
  view.back = h('button', { type: 'button', onclick: () => view.back.ariaDisabled === 'true' ? toast(view.back.title, true) : act(view.back, `/rollback?pool=${encodeURIComponent(pool.name)}`, null, `${pool.name}: rolled back`) }, 'Roll back');
  const form = h('form', { onsubmit: event => {
    event.preventDefault();
    const name = view.choice.value;
    act(view.put, '/reload', { pool: pool.name, strategy: { name } }, `${pool.name}: ${name} is in charge until the next reload`).then(ok => { if (ok) view.choice.value = ''; });
  } }, view.choice, view.put, view.back);
  view.add = h('button', { type: 'button', onclick: openAdd }, 'Add servers');
  if (hasServers(pool)) form.append(view.add);
  view.what = h('span', { class: 'what' });
  view.standing = h('span', { class: 'chip' });
  view.queue = h('span', { class: 'chip', hidden: '' });
  view.overridden = h('span', { class: 'chip', hidden: '', 'data-s': 'warn', title: 'Replaces the strategy in the file until the next reload' }, 'override');
  const head = ['Backend', 'Health', '', 'Req/s · all', 'Last 3 min', 'In flight', 'p99', 'Errors/s · all', 'Weight', ''];
  const right = [3, 5, 6, 7];
  view.over = h('span', {}, 'Share of expected');
  view.table = h('div', { role: 'table', 'aria-labelledby': id }, h('div', { role: 'row', class: 'row head' }, ...head.map((word, i) =>
    h('div', { role: 'columnheader', class: right.includes(i) ? 'r' : i === 4 ? 'sparkcell' : '' }, i === 2 ? view.over : word || h('span', { class: 'unseen' }, 'Action')))));
  view.empty = h('p', { class: 'dim', hidden: '' }, hasServers(pool) ? 'No servers: “Add servers” attaches or launches some.' : 'No servers.');
  view.more = h('button', { type: 'button', class: 'more', 'aria-expanded': 'false', hidden: '', onclick: () => {
    view.isWhole = !view.isWhole;
    view.more.ariaExpanded = String(view.isWhole);
    draw();
  } });
  view.shadows = h('ul', { class: 'shadows dim', 'aria-label': `Shadows of pool ${pool.name}`, hidden: '' });
  view.ring = makeRing(pool);
  view.element = h('section', { class: 'card', 'aria-labelledby': id },
    h('div', { class: 'pool-head' }, h('h2', { id }, h('span', {}, 'pool '), pool.name), view.what, view.standing, view.queue, view.overridden, form), view.shadows, view.table, view.empty, view.more, view.ring.element);
  fetchStrategies();
  return view;
}

/** Fetches the names to choose from, each time the pointer or the focus reaches the list. */
async function fetchStrategies() {
  const response = await fetch('/strategies').catch(() => null);
  if (response?.ok) offered = (await response.json()).strategies.map(strategy => strategy.name);
}

/** The list of strategies. The one in charge is shown but cannot be chosen. */
function drawChoice(view, pool) {
  const drawn = [pool.strategy, ...offered].join('\n');
  if (view.choice.dataset.drawn === drawn) return;
  view.choice.dataset.drawn = drawn;
  const chosen = view.choice.value;
  const option = name => name === pool.strategy ? h('option', { value: name, disabled: '' }, `${name} (in charge)`) : h('option', { value: name }, name);
  view.choice.replaceChildren(h('option', { value: '' }, 'Another strategy…'), ...offered.map(option));
  if (offered.includes(chosen) && chosen !== pool.strategy) view.choice.value = chosen;
}

function chip(element, state, kind, words) {
  if (element.dataset.words === words) return;
  element.dataset.words = words;
  element.dataset.s = state;
  element.replaceChildren(shape(kind), words);
}

// A strategy is proven after a time and a number of picks.
function probation(pool) {
  const left = pool.probation_left_ms > 0 ? `, ${Math.ceil(pool.probation_left_ms / 1000)} s` : '';
  const picks = pool.probation_picks < pool.probation_picks_min ? `, ${pool.probation_picks} picks so far` : '';
  return `on probation${left}${picks}`;
}

function drawPool(view, pool, now) {
  drawChoice(view, pool);
  const byRing = drawRing(view.ring, pool);
  text(view.what, `${pool.strategy} ${pool.version}`);
  view.what.title = pool.sha256 ? `sha256 ${pool.sha256}` : '';
  if (pool.standing === 'proven') chip(view.standing, 'ok', 'change', 'proven');
  else if (pool.standing === 'failed') chip(view.standing, 'bad', 'refused', 'failed');
  else chip(view.standing, 'warn', 'swap', probation(pool));
  // Not `disabled`: the button would lose the focus as soon as it was pressed.
  view.back.ariaDisabled = String(!pool.rollback_to);
  view.back.title = pool.rollback_to ? `Restores ${pool.rollback_to}` : 'No earlier strategy to restore';
  view.overridden.hidden = !now.reload.overridden.includes(pool.name);
  view.queue.hidden = !pool.queue;
  if (pool.queue) drawQueue(view.queue, pool.queue);
  drawShadows(view.shadows, pool.shadows ?? []);
  view.empty.hidden = pool.backends.length > 0;

  // Expected shares are those of now. So shares begin at the last change of what they depend on.
  const then = ticks.find(tick => now.at - tick.at <= SHARE_MS + 500 && tick.uptime_s >= pool.since_s);
  const over = Math.round((now.at - then.at) / 1000);
  text(view.over, over ? `Share of expected, ${over} s` : 'Share of expected');
  const grown = backend => Math.max(0, backend.responses - (then.of.get(keyOf(pool, backend))?.responses ?? backend.responses));
  const all = pool.backends.reduce((sum, backend) => sum + grown(backend), 0);
  const weightOf = backend => backend.eligible ? backend.weight * (backend.slow_start_percent ?? 100) / 100 : 0;
  const weights = pool.backends.reduce((sum, backend) => sum + weightOf(backend), 0);
  const expectedOf = backend => byRing ? byRing.get(backend.id) ?? 0 : weights ? weightOf(backend) / weights : 0;
  // The longest bar nearly fills its cell, so that a share of 1 % in a large pool is visible, too.
  const scale = Math.min(1, 1.15 * Math.max(.01, ...pool.backends.flatMap(backend => [expectedOf(backend), all ? grown(backend) / all : 0])));
  const isLarge = pool.backends.length > ROWS_MAX;
  view.more.hidden = !isLarge;
  text(view.more, view.isWhole ? 'Show fewer' : `Show all ${pool.backends.length}`);
  view.table.ariaRowCount = pool.backends.length + 1;
  const ids = new Set(pool.backends.map(backend => backend.id));
  for (const [id, row] of view.rows) if (!ids.has(id)) {
    // The focus does not get lost with the row.
    if (row.element.contains(document.activeElement)) (hasServers(pool) ? view.add : view.choice).focus();
    row.element.remove();
    view.rows.delete(id);
  }
  pool.backends.forEach((backend, i) => {
    if (!view.rows.has(backend.id)) view.rows.set(backend.id, makeRow(pool, backend));
    const row = view.rows.get(backend.id);
    if (view.table.children[i + 1] !== row.element) view.table.insertBefore(row.element, view.table.children[i + 1] ?? null);
    row.element.hidden = isLarge && !view.isWhole && i >= ROWS_SHOWN && backend.eligible && !now.of.get(keyOf(pool, backend)).error_rate
      && !row.element.contains(document.activeElement);
    if (row.element.hidden) return;
    row.element.ariaRowIndex = i + 2;
    row.swatch.hidden = !byRing;
    drawRow(row, pool, backend, now, { share: all ? grown(backend) / all : null, expected: expectedOf(backend), scale });
  });
}

/** The requests that wait, and the adaptive limit if there is one. */
function drawQueue(element, { waiting, held, adaptive_limit: limit }) {
  chip(element, waiting ? 'warn' : 'ok', 'change', `${number(waiting)} waiting${limit == null ? '' : `, limit ${number(limit)}`}`);
  element.title = `Requests that wait ${held ? 'until the strategy picks a backend' : 'for a backend with room'}${limit == null ? '' : '; limit of the requests in flight on the pool'}`;
}

/** A line for each shadow: how its picks compare with those of the strategy in charge. */
function drawShadows(list, shadows) {
  list.hidden = !shadows.length;
  while (list.children.length > shadows.length) list.lastChild.remove();
  shadows.forEach((shadow, i) => {
    const line = list.children[i] ?? list.appendChild(h('li', {}));
    text(line, shadowWords(shadow));
    line.classList.toggle('bad', !!shadow.off);
    line.title = shadow.off ?? 'Peak to mean of the picks by weight; 1 is even. Requests go to the backends of the strategy in charge.';
  });
}

function shadowWords(shadow) {
  const name = `shadow ${shadow.id}: ${shadow.strategy} ${shadow.version}`;
  if (shadow.off) return `${name}, switched off: ${shadow.off}`;
  const words = [`${number(shadow.picks)} picks`];
  if (shadow.agreement != null) words.push(`${percent(shadow.agreement)} the same`);
  if (shadow.imbalance != null) words.push(`peak to mean ${shadow.imbalance.toFixed(2)}, in charge ${(shadow.imbalance_in_charge ?? 1).toFixed(2)}`);
  if (shadow.undecided) words.push(`${number(shadow.undecided)} undecided`);
  if (shadow.faults) words.push(`${number(shadow.faults)} faults`);
  return `${name}, ${words.join(', ')}`;
}

function makeRow(pool, backend) {
  const row = {}, cell = (label, name = 'r', ...parts) => h('div', { role: 'cell', class: name, 'data-label': label }, ...parts);
  const at = `/backends/${encodeURIComponent(backend.id)}`, query = `?pool=${encodeURIComponent(pool.name)}`;
  row.address = h('span');
  row.swatch = swatch(keyOf(pool, backend));
  row.labels = h('span', { title: 'Labels' });
  row.who = h('div', { role: 'cell', class: 'who' }, h('b', { title: backend.id }, row.swatch, backend.id), row.address, row.labels);
  row.state = h('span', { class: 'chip' });
  row.bar = h('div', { class: 'bar', 'aria-hidden': 'true' }, h('i'), h('u'));
  row.share = h('span');
  row.rate = h('span');
  row.requests = h('span', { class: 'all' });
  row.spark = s('svg', { class: 'spark', viewBox: '0 0 180 28', preserveAspectRatio: 'none', 'aria-hidden': 'true' });
  row.spark.append(row.sparkArea = s('path', { class: 'a-req' }), row.sparkLine = s('path', { class: 'l' }));
  row.flight = cell('In flight');
  row.p99 = cell('p99');
  row.errors = h('span');
  row.failed = h('span', { class: 'all' });
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
  const buttons = h('div', { role: 'cell', class: 'actcell' }, row.act);
  if (hasServers(pool)) buttons.append(h('button', { type: 'button', class: 'remove', title: 'Remove', 'aria-label': `Remove ${backend.id}`, onclick: () => openRemove(backend) }, '×'));
  const weightCell = h('div', { role: 'cell', class: 'weightcell' }, weight);
  row.element = h('div', { role: 'row', class: 'row' }, row.who, h('div', { role: 'cell', class: 'state' }, row.state),
    h('div', { role: 'cell', class: 'share' }, row.bar, row.share), cell('Req/s · all', 'r', row.rate, row.requests), h('div', { role: 'cell', class: 'sparkcell' }, row.spark),
    row.flight, row.p99, cell('Errors/s · all', 'r errors', row.errors, row.failed), weightCell, buttons);
  return row;
}

function drawRow(row, pool, backend, now, { share, expected, scale }) {
  const key = keyOf(pool, backend), of = now.of.get(key);
  text(row.address, `${backend.address} · ${backend.origin}`);
  text(row.labels, backend.labels ?? '');
  row.labels.hidden = !backend.labels;
  if (!backend.healthy) chip(row.state, 'bad', 'down', 'down');
  else if (backend.draining) chip(row.state, 'warn', 'refused', !backend.in_flight ? 'drained' : backend.drain_left_ms ? `drains ${Math.ceil(backend.drain_left_ms / 1000)} s` : 'draining');
  else if (backend.weight === 0) chip(row.state, 'warn', 'refused', 'weight 0');
  else if (backend.ejected) chip(row.state, 'bad', 'down', backend.eligible ? 'suspended' : 'ejected');
  else if (backend.backup) chip(row.state, backend.eligible ? 'warn' : 'ok', 'change', backend.eligible ? 'backup in use' : 'backup');
  else if (!backend.eligible) chip(row.state, 'warn', 'refused', 'waiting');
  else if (backend.slow_start_percent != null) chip(row.state, 'warn', 'up', `${backend.slow_start_percent} %`);
  else chip(row.state, 'ok', 'change', 'healthy');
  row.state.title = backend.reason ?? backend.ejected ?? (backend.slow_start_percent != null ? 'Slow start: its part of its share' : '');
  row.element.classList.toggle('off', !backend.eligible);
  row.bar.style.setProperty('--w', percent((share ?? 0) / scale).replace(' ', ''));
  row.bar.style.setProperty('--e', percent(expected / scale).replace(' ', ''));
  text(row.share, share == null ? `– of ${percent(expected)}` : `${(100 * share).toFixed(1)} of ${percent(expected)}`);
  text(row.rate, rate(of.rate));
  text(row.flight, String(backend.in_flight));
  text(row.p99, backend.p99_ms == null ? '–' : time(backend.p99_ms).join(' '));
  text(row.requests, number(backend.responses));
  text(row.errors, rate(of.error_rate));
  text(row.failed, number(backend.errors));
  row.errors.classList.toggle('bad', of.error_rate > 0);
  if (!row.touched && document.activeElement !== row.field) row.field.value = backend.weight;
  row.draining = backend.draining;
  text(row.act, backend.draining ? 'Ready' : 'Drain');
  row.act.setAttribute('aria-label', backend.draining ? `Ready: send requests to ${backend.id} again` : `Drain ${backend.id}`);
  const rates = ticks.map(tick => tick.of.get(key)?.rate);
  const most = Math.max(1, ...rates.map(value => value ?? 0));
  const points = ticks.map((tick, i) => rates[i] == null ? null : [180 - (now.at - tick.at) / 1e3, 26 - rates[i] / most * 24]);
  row.sparkLine.setAttribute('d', path(points));
  row.sparkArea.setAttribute('d', area(points, 28));
}
