
// The chart of the last three minutes: requests and errors above, latency below, marks over both.

const LEAST_MS = .1;  // the start of the latency axis

let cursor = null;    // the pointer's position, from 0 (left) to 1 (right)
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

/** The path of a series, with a gap at each `null`. */
function path(points) {
  let d = '', pen = 'M';
  for (const point of points) {
    if (point) d += `${pen}${point[0].toFixed(1)} ${point[1].toFixed(1)}`;
    pen = point ? 'L' : 'M';
  }
  return d;
}

/** The same series as an area down to `floor`. */
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
  // Logarithmic, so that a median of 0.5 ms and a p99 of 1 s both show in one chart.
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
  // Any error rate above 0 is drawn at least 5 px high, so that few errors show beside many requests.
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
  const told = `${rate(now.rate)} requests and ${rate(now.error_rate)} errors a second, median ${words(now.p50_ms)}, p99 ${words(now.p99_ms)}`;
  if (!chart.told || Math.abs(now.at - chart.told) > 10e3) {
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
