
// The page as a whole: what is drawn at every tick, what the operator asks for, and the stream of events that drives it.

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
  text($('differs'), reload.differs.length ? `Not as the files say: ${reload.differs.join('; ')}` : '');
  $('differs').hidden = !reload.differs.length;
  const last = reload.last;
  const why = last?.reason ? `: ${last.reason.replace(/^<Error> /, '')}` : '';
  const how = !last ? '' : last.result ? last.result.replace('_', ' ') : `refused${last.stage ? ` at ${last.stage}` : ''}${why}`;
  text($('last-reload'), reload.running ? 'a reload is running' : last ? `last reload: ${how}, by ${last.by}, generation ${last.generation}` : 'no reload yet');
}


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
