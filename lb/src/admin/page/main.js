
// The main part: draws the page at every tick, sends the operator's requests, and reads the event stream.

const LOG_MAX = 12;

let source, heard = 0, toastTimer;

function draw() {
  const now = ticks.at(-1);
  text($('about'), `${now.version} · ${now.workers} worker${now.workers === 1 ? '' : 's'} · generation ${now.generation} · up ${span(now.uptime_s)}`);
  document.title = `lb · ${rate(now.rate)}/s`;
  text($('n-requests'), rate(now.rate));
  text($('n-errors'), rate(now.error_rate));
  $('n-errors').classList.toggle('bad', now.error_rate > 0);
  text($('all-requests'), `${number(now.requests)} in all`);
  text($('all-errors'), `${number(now.errors)} in all`);
  for (const p of ['p50', 'p99']) {
    const [digits, unit] = time(now[p + '_ms']);
    text($('n-' + p), digits);
    text($('u-' + p), unit);
  }
  text($('n-flight'), number(now.in_flight));
  $('logout').hidden = !now.guarded;
  drawReload(now.reload);
  drawChart(now);
  drawPools(now);
  if (marks.changed) drawLog();
}

function drawReload(reload) {
  text($('differs'), reload.differs.length ? `Differs from the files: ${reload.differs.join('; ')}` : '');
  $('differs').hidden = !reload.differs.length;
  const last = reload.last;
  const why = last?.reason ? `: ${last.reason.replace(/^<Error> /, '')}` : '';
  const how = !last ? '' : last.result ? last.result.replace('_', ' ') + why : `refused${last.stage ? ` at ${last.stage}` : ''}${why}`;
  text($('last-reload'), reload.running ? 'a reload is running' : last ? `last reload: ${how}, by ${last.by}, generation ${last.generation}` : 'no reload yet');
}


function drawLog() {
  // Only new events are added, so that a screen reader reads each one once.
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

// ── the operator's requests ──

/** Sends a change. `failed` shows why it failed. Returns whether it is in force. */
async function act(button, path, body, done, { method = 'POST', failed = sentence => toast(sentence, true) } = {}) {
  if (button.ariaBusy === 'true') return false;
  button.ariaBusy = 'true';
  try {
    const request = { method };
    if (body) Object.assign(request, { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } });
    const response = await fetch(path, request);
    if (response.status === 401) { location.reload(); return false; }
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) {
      const reason = bare(String(answer.message ?? `status ${response.status}`));
      failed(answer.stage ? `Refused at ${answer.stage}: ${reason}` : reason);
      return false;
    }
    const unchanged = answer.result === 'no_change' ? 'Nothing had changed.' : null;
    toast(unchanged ?? (answer.warnings?.length ? `${done}. ${answer.warnings.join(' ')}` : done), false);
    return true;
  } catch {
    failed('lb does not respond');
    return false;
  } finally {
    button.ariaBusy = 'false';
  }
}

function toast(sentence, failed) {
  clearTimeout(toastTimer);
  text($('toast-text'), sentence);
  $('toast').className = 'toast show' + (failed ? ' failed' : '');
  // A failure stays until it is dismissed.
  if (!failed) toastTimer = setTimeout(hideToast, 6000);
}

function hideToast() { $('toast').className = 'toast'; }

function live(state, words) {
  $('live').dataset.state = state;
  text($('live-text'), words);
  // Values of a lost connection are grey, with the time of the last ones.
  const isLost = state === 'lost', last = ticks.at(-1);
  document.body.classList.toggle('is-lost', isLost);
  text($('stale'), !isLost ? '' : last ? `No data from lb since ${clock(last.at)}. The values below are of that time.` : 'No data from lb yet.');
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
    // The browser reconnects by itself, unless lb refused the request.
    if (source.readyState !== EventSource.CLOSED) return;
    setTimeout(() => fetch('/status', { method: 'HEAD' }).then(
      response => response.status === 401 ? location.reload() : connect(), connect), 2000);
  };
}

// A hidden page closes its stream, as browsers open at most six connections to one address. When the page is visible
// again, lb sends the ticks that it missed.
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) return connect();
  source.close();
  document.title = 'lb';
});

// Notices a connection that was lost without an error.
setInterval(() => {
  if (heard && Date.now() - heard > 5000 && $('live').dataset.state === 'live') live('lost', 'no data');
}, 1000);
$('reload').addEventListener('click', () => act($('reload'), '/reload', null, 'Reloaded: the files are in force'));
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
