
// Incoming ticks. The differences between two ticks are the events between them.

const WINDOW_MS = 180e3;  // the time that the charts show
const GAP_MS = 3500;      // a longer time without a tick is drawn as a gap

const ticks = [];  // oldest first, each with the rates since the tick before it
const marks = [];  // events
let drawing = false;

const keyOf = (pool, backend) => pool.name + '\n' + backend.id;

function take(tick) {
  const before = ticks.at(-1);
  const isSame = before && tick.run === before.run;
  // After a reconnect lb sends past ticks again. They are recognised by lb's uptime, as the machine's clock may be set.
  if (isSame && tick.uptime_s <= before.uptime_s) return;
  if (before && !isSame) {
    ticks.length = 0;
    for (const view of pools.values()) view.ring.of = null;
    mark(tick.at, 'change', 'lb was restarted');
  } else if (before) {
    keepDistance(before, tick);
    compare(before, tick);
  }
  const last = ticks.at(-1);
  const passed = last ? (tick.uptime_s - last.uptime_s) * 1000 : 0;
  const seconds = passed < GAP_MS ? passed / 1000 : 0;
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
  for (const pool of tick.pools) {
    const then = last?.pools.find(then => then.name === pool.name);
    pool.depends = JSON.stringify([pool.picker, pool.backends.map(backend => [backend.id, backend.eligible, backend.weight, backend.slow_start_percent])]);
    pool.since_s = then?.depends === pool.depends ? then.since_s : tick.uptime_s;
  }
  ticks.push(tick);
  while (tick.at - ticks[0].at > WINDOW_MS + 5e3) ticks.shift();
  if (!drawing) {
    drawing = true;
    requestAnimationFrame(() => { drawing = false; draw(); });
  }
}

/** When the machine's clock was set, shifts older ticks and marks by as much, so that their age in the chart stays. */
function keepDistance(before, now) {
  const set = now.at - before.at - (now.uptime_s - before.uptime_s) * 1000;
  if (Math.abs(set) < 1000) return;
  for (const one of [...ticks, ...marks]) one.at += set;
  marks.changed = true;
}

function mark(at, kind, sentence) {
  marks.push({ at, kind, sentence });
  if (marks.length > 40) marks.shift();
  marks.changed = true;
}

/** Records the differences between two ticks as marks. */
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
        // A replica that is restarted at once is up again before the next tick.
        else if (backend.downs > then.downs && backend.healthy) say('down', `${who} went down and is up again`);
        if (!then.ejected && backend.ejected) say('down', `${who} is ejected: ${backend.ejected}`);
        else if (then.ejected && !backend.ejected && backend.eligible) say('up', `${who} takes requests after its ejection`);
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
