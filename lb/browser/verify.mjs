#!/usr/bin/env node
// Drives the live page of a real lb in Chromium: `node verify.mjs [--lb PATH] [--plugins FOLDER] [--pictures FOLDER] [--chromium PATH]`,
// after `npm ci` in this folder. Prints one line per step. At the first failed step it prints the reason and exits with 1.
//
// Waits are for events and end after 30 s. Only the delays until a swap and a dead backend show are measured.

import assert from 'node:assert/strict';
import { mkdir, readFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';
import { PATIENCE_MS, World } from './world.mjs';

const here = dirname(fileURLToPath(import.meta.url)), root = resolve(here, '../..');
const { values: options } = parseArgs({ options: {
  lb: { type: 'string', default: join(root, 'target/release/lb') },
  plugins: { type: 'string' },
  pictures: { type: 'string', default: join(root, 'target/page') },
  chromium: { type: 'string', default: '/usr/bin/chromium' },
} });
const plugins = options.plugins ?? dirname(options.lb);
const ROUNDS = 5;
const TOKEN = 'b9c1f6b2d34f0a7e5c8890712de4ab63';
const BACKENDS_FAULT = /^(connect|connect_timeout|timeout|reset|backend_down|bad_response)$/;
const IDS = ['blue', 'green', 'b.3 old'];

const backends = (servers, table = 'backends') => [...servers].map(([id, address]) => `[[${table}]]\nid = "${id}"\naddress = "${address}"\n`).join('');
const ordinary = servers => `[strategy]\nname = "round_robin"\n${backends(servers)}`;
const rowOf = (page, id) => page.locator('.row:not(.head)', { has: page.locator('.who b', { hasText: new RegExp(`^${id.replace('.', '\\.')}$`) }) });
const median = times => [...times].sort((a, b) => a - b)[Math.floor(times.length / 2)];
const seconds = times => `median of ${times.length} ${(median(times) / 1000).toFixed(2)} s (${times.map(ms => (ms / 1000).toFixed(2)).join(' ')})`;

/** Waits until `find`, which runs in the page, is true. */
const until = (page, find, arg) => page.waitForFunction(find, arg, { timeout: PATIENCE_MS, polling: 20 });
const textIs = (locator, wanted) => locator.filter({ hasText: wanted }).waitFor({ state: 'attached', timeout: PATIENCE_MS })
  .catch(async () => assert.fail(`${wanted} did not appear; the text is ${JSON.stringify(await locator.textContent())}`));

/** Opens the page; `page.mistakes` collects its errors and warnings. */
async function open(browser, world, settings = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 1000 }, ...settings });
  const page = await context.newPage();
  page.mistakes = [];
  page.on('console', message => { if (['error', 'warning'].includes(message.type())) page.mistakes.push(message.text()); });
  page.on('pageerror', error => page.mistakes.push(String(error)));
  await page.goto(`http://${world.admin}/`);
  return page;
}

const isLive = page => until(page, () => document.getElementById('live').dataset.state === 'live');

// ── the steps ──

/** At rest, the page shows the figures of /metrics. */
async function numbers({ world, page }) {
  await isLive(page);
  await world.send(600);
  await textIs(page.locator('#all-requests'), /^600 in all$/);
  // Quantiles are over the last five seconds; all requests were sent in that time.
  const [shown, scrape] = [await page.locator('.tiles').innerText(), await world.scrape()];
  const pool = { pool: 'default' };
  assert.equal(scrape('lb_requests_total'), 600);
  for (const [name, q] of [['p50', .5], ['p99', .99]]) {
    const ms = 1000 * scrape.quantile(q, 'lb_request_duration_seconds', pool);
    const [, value, unit] = shown.replace(/\s+/g, ' ').match(new RegExp(`Latency ${name} ([0-9.]+) (ms|s) `)) ?? [];
    // The page and this program round the same quantile, but they may add its parts in another order.
    const digits = ms < 10 ? 2 : ms < 100 ? 1 : ms < 1000 ? 0 : 2;
    const wanted = ms < 1000 ? ms : ms / 1000;
    const isShown = value?.split('.')[1]?.length === (digits || undefined) && unit === (ms < 1000 ? 'ms' : 's') && Math.abs(value - wanted) < .51 * 10 ** -digits;
    assert.ok(isShown, `${name} is ${ms} ms by /metrics; the page: ${shown}`);
  }
  const all = await page.locator('#all-errors').innerText();
  assert.equal(all, `${scrape('lb_requests_total', { code: /^5/ })} in all`);
  assert.equal(await page.locator('#n-flight').innerText(), String(scrape('lb_requests_in_flight')));
  for (const id of IDS) {
    const cells = rowOf(page, id).locator('.all');
    const of = { ...pool, backend: id };
    assert.deepEqual(await cells.allInnerTexts(), [String(scrape('lb_backend_requests_total', of)),
      String(scrape('lb_backend_errors_total', { ...of, reason: BACKENDS_FAULT }) + scrape('lb_backend_requests_total', { ...of, code: /^5/ }))], id);
    assert.equal(await rowOf(page, id).locator('input').inputValue(), String(scrape('lb_backend_weight', of)));
    assert.equal(await rowOf(page, id).locator('.chip').innerText(), scrape('lb_backend_up', of) ? 'healthy' : 'down');
  }
  assert.ok((await page.locator('.pool-head .chip').allInnerTexts()).every(words => !words.includes('waiting')), 'no request may wait');
  return '600 requests, their p50 and p99, errors, in flight, and each backend\'s responses, errors, weight and health are those of /metrics';
}

/** The delay until a swap and a dead backend show. */
async function news({ world, page }) {
  const stop = world.load();
  const swaps = [], deaths = [], found = [];
  const what = page.locator('.pool-head .what');
  for (let round = 0; round < ROUNDS; round++) {
    const name = ['least_connections', 'round_robin'][round % 2];
    const { status, text } = await world.ask(world.admin, 'POST', '/reload', { strategy: { name } });
    const began = performance.now();
    assert.equal(status, 200, text);
    await textIs(what, new RegExp(`^${name} `));
    await textIs(page.locator('#log li').first(), new RegExp(`→ ${name} `));
    swaps.push(performance.now() - began);
  }
  const state = rowOf(page, 'green').locator('.chip');
  for (let round = 0; round < ROUNDS; round++) {
    await textIs(state, /^healthy$/);
    const began = performance.now();
    await world.kill('green');
    let down = null;
    const asking = (async () => {
      while (down == null) {
        const { text } = await world.ask(world.admin, 'GET', '/backends');
        if (!JSON.parse(text).find(backend => backend.id === 'green').healthy) down = performance.now() - began;
      }
    })();
    await textIs(state, /^down$/);
    deaths.push(performance.now() - began);
    await asking;
    found.push(down);
    await world.serve('green', world.servers.get('green').split(':')[1]);
  }
  await textIs(state, /^healthy$/);
  await stop();
  assert.ok(await page.locator('.chart .mark.k-down').count() >= ROUNDS, 'deaths are marked in the chart');
  return `a swap shows after ${seconds(swaps)}; a kill after ${seconds(deaths)}, of which lb itself needed ${seconds(found)} (three checks, as often as by default)`;
}

/** The buttons work by keyboard alone, and the focus is always visible. */
async function keyboard({ world, page }) {
  await page.reload();
  await isLive(page);
  const stops = [];
  for (;;) {
    await page.keyboard.press('Tab');
    const stop = await page.evaluate(() => {
      const on = document.activeElement, style = getComputedStyle(on), box = on.getBoundingClientRect();
      return on === document.body ? null : { name: on.getAttribute('aria-label') ?? on.textContent.trim(), ring: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
        inside: box.left >= 0 && box.right <= innerWidth && box.width > 0 };
    });
    if (!stop || stops.length > 60) break;
    assert.ok(stop.ring && stop.inside, `the focus on ${JSON.stringify(stop)} cannot be seen`);
    stops.push(stop.name);
  }
  const ofRows = IDS.flatMap(id => [`Weight of ${id}`, `Set the weight of ${id}`, `Drain ${id}`, `Remove ${id}`]);
  assert.deepEqual(stops, ['Reload', 'Strategy for pool default', 'Put in charge', 'Roll back', 'Add servers', ...ofRows], 'the order of the focus');

  const row = rowOf(page, 'blue'), to = async name => {
    for (let presses = 0; presses <= stops.length; presses++) {
      if (await page.evaluate(() => document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent.trim()) === name) return;
      await page.keyboard.press('Tab');
    }
    assert.fail(`no way to ${name} by Tab`);
  };
  const backend = async () => JSON.parse((await world.ask(world.admin, 'GET', '/backends')).text).find(backend => backend.id === 'blue');
  await to('Drain blue');
  await page.keyboard.press('Enter');
  await textIs(row.locator('.chip'), /^drain(ed|ing)$/);
  assert.equal((await backend()).draining, true);
  await textIs(page.locator('#toast-text'), /blue drains/);
  assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Ready', 'the focus stays');
  await page.keyboard.press('Space');
  await textIs(row.locator('.chip'), /^healthy$/);
  assert.equal((await backend()).draining, false);
  await to('Weight of blue');
  await page.keyboard.press('ControlOrMeta+a');
  await page.keyboard.type('3');
  await page.keyboard.press('Enter');
  await textIs(row.locator('.share span'), /of 60\.0 %/);
  assert.equal((await backend()).weight, 3);
  await page.keyboard.press('ControlOrMeta+a');
  await page.keyboard.type('1');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Space');
  await textIs(row.locator('.share span'), /of 33\.3 %/);

  const before = await page.locator('.what').innerText();
  await to('Strategy for pool default');
  await until(page, () => document.querySelector('select').options.length > 1);
  const choice = await page.locator('select option').allInnerTexts();
  assert.ok(['consistent_hash', 'assignment_ring'].every(name => choice.includes(name)), `${choice}`);
  await page.keyboard.type('cons');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await textIs(page.locator('.what'), /^consistent_hash /);
  await to('Roll back');
  await page.keyboard.press('Enter');
  await textIs(page.locator('.what'), new RegExp(`^${before.split(' ')[0]} `));
  await textIs(page.locator('#log'), /rolled back/);
  await to('Reload');
  await page.keyboard.press('Enter');
  await textIs(page.locator('#toast-text'), /Reloaded|Nothing had changed/);
  await page.keyboard.press('Escape');
  await until(page, () => getComputedStyle(document.getElementById('toast')).visibility === 'hidden');
  return `${stops.length} stops, each visible; drain, ready, weight, strategy, roll back and reload by keyboard alone`;
}

/** A drained server's share begins at the drain, as its expected share does. */
async function shares({ page, world }) {
  await isLive(page);
  const stop = world.load();
  await until(page, () => /^[\d.]+ of 33/.test(document.querySelector('.row:not(.head) .share span')?.textContent));
  await rowOf(page, 'blue').getByRole('button', { name: 'Drain blue' }).click();
  await textIs(rowOf(page, 'blue').locator('.chip'), /^drain(ed|ing)$/);
  // Every tick from then on, until shares of three seconds are shown.
  const seen = await page.evaluate(() => new Promise(done => {
    const seen = [], real = drawPools;
    const look = () => [...document.querySelectorAll('.row:not(.head) .share span')].map(share => share.textContent);
    seen.push(look());
    drawPools = now => {
      real(now);
      seen.push(look());
      if (seen.length > 4) { drawPools = real; done(seen); }
    };
  }));
  for (const [blue, ...others] of seen) {
    const [share, expected] = blue.split(' of ').map(parseFloat);
    assert.ok(expected === 0 && !(share > 5), `a drained server shows ${blue}`);
    for (const other of others) assert.match(other, /^(–|[\d.]+) of 50\.0 %$/);
  }
  assert.match(await page.locator('.row.head').innerText(), /Share of expected, [1-9] s/);
  await rowOf(page, 'blue').getByRole('button', { name: /^Ready/ }).click();
  await textIs(rowOf(page, 'blue').locator('.chip'), /^healthy$/);
  await stop();
  return `after a drain: ${seen.map(([blue]) => blue).join(', ')}`;
}

/** Servers are attached and removed on the page; a refusal is shown in words, and a removal is confirmed. */
async function servers({ world, page }) {
  const ids = async () => JSON.parse((await world.ask(world.admin, 'GET', '/rep')).text).message.replicas;
  const before = await ids(), address = await world.serve('new');
  const add = page.getByRole('dialog', { name: 'Add servers to pool default' });
  await page.getByRole('button', { name: 'Add servers' }).focus();
  await page.keyboard.press('Enter');
  await add.getByLabel('Name', { exact: true }).fill('new');
  await add.getByLabel('Address').fill('127.0.0.1');
  await add.getByLabel('Weight').fill('2');
  const mistakes = page.mistakes.length;
  await page.keyboard.press('Enter');
  await textIs(add.getByRole('alert'), /port/);
  const refused = await add.getByRole('alert').innerText();
  assert.deepEqual(await ids(), before, 'nothing was added');
  await add.getByLabel('Launch servers').check();
  assert.equal(await add.getByLabel('Name', { exact: true }).isVisible(), false);
  await add.getByLabel('Number').fill('1');
  await add.getByRole('button', { name: 'Add' }).click();
  await textIs(add.getByRole('alert'), /launch/i);
  const noLauncher = await add.getByRole('alert').innerText();
  await add.getByLabel('Attach a running server').check();
  assert.equal(await add.getByLabel('Name', { exact: true }).inputValue(), 'new', 'the input stays');
  await add.getByLabel('Address').fill(address);
  await page.keyboard.press('Enter');
  await textIs(rowOf(page, 'new').locator('.chip'), /^healthy$/);
  assert.equal(await add.isVisible(), false);
  await textIs(page.locator('#toast-text'), /^new is attached$/);
  assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Add servers', 'the focus returns');
  assert.deepEqual([await ids(), await rowOf(page, 'new').locator('input').inputValue()], [[...before, 'new'], '2']);

  const remove = page.getByRole('dialog', { name: 'Remove new?' });
  for (const leave of ['Escape', 'Enter']) {
    await rowOf(page, 'new').getByRole('button', { name: 'Remove new' }).focus();
    await page.keyboard.press('Enter');
    await remove.waitFor({ timeout: PATIENCE_MS });
    assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Cancel');
    await page.keyboard.press(leave);
    await remove.waitFor({ state: 'hidden', timeout: PATIENCE_MS });
  }
  assert.deepEqual(await ids(), [...before, 'new'], 'not confirmed');
  await rowOf(page, 'new').getByRole('button', { name: 'Remove new' }).click();
  // The server is gone when the operator confirms.
  const body = { n: 1, hostnames: ['new'] };
  await world.ask(world.admin, 'DELETE', '/rm', body);
  await remove.getByRole('button', { name: 'Remove' }).click();
  await textIs(remove.getByRole('alert'), /new/);
  await page.keyboard.press('Escape');
  await rowOf(page, 'new').waitFor({ state: 'detached', timeout: PATIENCE_MS });
  await world.ask(world.admin, 'POST', '/add', { backends: [{ id: 'new', address }] });
  await rowOf(page, 'new').getByRole('button', { name: 'Remove new' }).click();
  await remove.getByRole('button', { name: 'Remove' }).click();
  await textIs(page.locator('#toast-text'), /^new is removed$/);
  await rowOf(page, 'new').waitFor({ state: 'detached', timeout: PATIENCE_MS });
  assert.deepEqual(await ids(), before);
  await until(page, () => document.activeElement.textContent === 'Add servers');
  await world.kill('new');
  // The browser reports the three refusals.
  assert.ok(page.mistakes.splice(mistakes).every(line => /status of 4/.test(line)));
  return `attached and removed by keyboard, confirmed; refusals: ${JSON.stringify(refused)}, ${JSON.stringify(noLauncher)}`;
}

/** Long names and addresses are shown whole, in wide and narrow windows. */
async function names({ world, page }) {
  const [long, address] = ['a-server-with-a-name-of-sixty-four-bytes.rack-17.hall-b1.example', [...world.servers.values()][0]];
  assert.equal((await world.ask(world.admin, 'POST', '/add', { backends: [{ id: long, address }] })).status, 200);
  await world.ask(world.admin, 'POST', '/reload', { strategy: { name: 'consistent_hash' } });
  await page.locator('.ring-legend li', { hasText: long }).waitFor({ timeout: PATIENCE_MS });
  await mkdir(options.pictures, { recursive: true });
  for (const width of [1440, 1261, 1100, 961, 700, 390, 320]) {
    await page.setViewportSize({ width, height: 900 });
    const cut = await page.evaluate(() => [...document.querySelectorAll('.tiles dt, .who b, .who span, .ring-legend span, #about, .what, h1, h2, .chip')].filter(element =>
      element.clientWidth && (element.scrollWidth > element.clientWidth + 1 || getComputedStyle(element).textOverflow === 'ellipsis')).map(element => element.textContent));
    assert.deepEqual(cut, [], `cut at ${width} px`);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth ? [] :
      [...document.body.querySelectorAll('*')].filter(element => element.getBoundingClientRect().right > innerWidth + 1).map(element => element.outerHTML.slice(0, 80)));
    assert.deepEqual(wide, [], `wider than ${width} px`);
    const overlaps = await page.evaluate(() => [...document.querySelectorAll('.row')].flatMap(row => {
      const cells = [...row.children].map(cell => cell.getBoundingClientRect()).filter(box => box.width);
      return cells.filter((one, i) => cells.some((other, j) => j > i && one.left < other.right - 1 && other.left < one.right - 1 && one.top < other.bottom - 1 && other.top < one.bottom - 1));
    }).length);
    assert.equal(overlaps, 0, `cells overlap at ${width} px`);
    await page.screenshot({ path: join(options.pictures, `names-${width}.png`), fullPage: true });
  }
  await page.setViewportSize({ width: 1440, height: 1000 });
  await world.ask(world.admin, 'DELETE', '/rm', { n: 1, hostnames: [long] });
  await rowOf(page, long).waitFor({ state: 'detached', timeout: PATIENCE_MS });
  await world.ask(world.admin, 'POST', '/rollback');
  await page.locator('.ring-box').waitFor({ state: 'hidden', timeout: PATIENCE_MS });
  return `a name of ${long.length} bytes is whole from 1440 to 320 px`;
}

/** The ring and its expected shares. */
async function ring({ world, page }) {
  const put = name => world.ask(world.admin, 'POST', '/reload', { strategy: { name } });
  const shares = () => page.locator('.ring-legend li').evaluateAll(items => items.map(item => parseFloat(item.lastElementChild.textContent)));
  const box = page.locator('.ring-box');
  assert.equal(await box.isVisible(), false, 'round robin has no ring');
  await put('assignment_ring');
  await textIs(page.locator('.ring-count'), /^27$/);
  // 3 servers with 9 points each, as the course's sheet has for servers 1, 2 and 3.
  const expected = await shares();
  assert.ok(Math.abs(expected.reduce((sum, share) => sum + share, 0) - 100) < .2, `${expected}`);
  await put('consistent_hash');
  await textIs(page.locator('.ring-count'), /^480$/);
  const before = await shares();
  const count = await page.locator('.ring .serves').count();
  await rowOf(page, 'blue').getByRole('button', { name: 'Drain blue' }).click();
  await until(page, count => document.querySelectorAll('.ring .serves').length === count, count - 1);
  const after = await shares();
  assert.equal(after[0], 0);
  assert.ok(after.slice(1).every((share, i) => share > before[i + 1]), `${before} then ${after}`);
  assert.equal(await page.locator('.ring .owns.out').count(), 1, 'a drained backend still owns its part');
  await world.send(3000);
  const share = await rowOf(page, 'green').locator('.share span').elementHandle();
  await until(page, share => { const [got, of] = share.textContent.match(/[\d.]+/g); return Math.abs(got - of) < 6; }, share);
  const got = await share.textContent();
  await rowOf(page, 'blue').getByRole('button', { name: /^Ready/ }).click();
  await until(page, count => document.querySelectorAll('.ring .serves').length === count, count);
  assert.deepEqual(await shares(), before);
  return `27 and 480 points; a drain gives ${before[0]} % away (${before} → ${after}), and ready takes them back; green got ${got}`;
}

/** axe-core finds no violation of the rules for accessible pages. */
async function accessible({ world, page }) {
  await world.ask(world.admin, 'POST', '/reload', { strategy: { name: 'consistent_hash' } });
  await page.locator('.ring-box').waitFor({ timeout: PATIENCE_MS });
  const axe = await readFile(join(here, 'node_modules/axe-core/axe.min.js'), 'utf8');
  let rules = 0;
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    await page.evaluate(axe);
    const { violations, passes } = await page.evaluate(() => axe.run());
    const told = violations.map(({ id, nodes }) => `${id}: ${nodes.map(node => `${node.target} ${node.failureSummary}`).join('; ')}`);
    assert.deepEqual(told, [], `${colorScheme}: axe-core finds`);
    rules = passes.length;
    for (const open of ['openAdd()', 'openRemove({ id: "blue", address: "127.0.0.1:1", origin: "file" })', 'source.close(); live("lost", "no connection")']) {
      await page.evaluate(open);
      const { violations } = await page.evaluate(() => axe.run());
      assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes[0].target} ${nodes[0].failureSummary}`), [], `${colorScheme}, ${open}: axe-core finds`);
      await page.evaluate(() => {
        for (const dialog of document.querySelectorAll('dialog')) dialog.close();
        if (source.readyState === EventSource.CLOSED) connect();
      });
      await isLive(page);
    }
  }
  await page.emulateMedia({ colorScheme: null });
  return `axe-core: no violation, light and dark, ${rules} rules passed`;
}

/** Pictures for people to look at. */
async function pictures({ world, page }) {
  await mkdir(options.pictures, { recursive: true });
  const stop = world.load();
  for (const colorScheme of ['light', 'dark']) for (const width of [1440, 390]) {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width, height: 900 });
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `no element is wider than ${width} px`);
    const picture = name => page.screenshot({ path: join(options.pictures, `${name}-${width}-${colorScheme}.png`), fullPage: name === 'live' });
    await picture('live');
    for (const [name, open] of [['add', 'openAdd()'], ['remove', 'openRemove({ id: "blue", address: "127.0.0.1:5001", origin: "file" })']]) {
      await page.evaluate(open);
      await picture(name);
      await page.evaluate(name => document.getElementById(name).close(), name);
    }
  }
  await stop();
  return `1440 and 390 px, light and dark, in ${options.pictures}`;
}

/** A hidden page closes its stream and gets the missed ticks when it is visible again. It reconnects to a restarted lb. */
async function comesBack({ world, page }) {
  const see = isHidden => page.evaluate(isHidden => {
    Object.defineProperty(document, 'hidden', { value: isHidden, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
  }, isHidden);
  const before = (await world.scrape())('lb_requests_total');
  await see(true);
  assert.equal(await page.evaluate(() => source.readyState), 2, 'the stream is closed');
  await world.send(200);
  assert.notEqual(await page.locator('#all-requests').innerText(), `${(before + 200).toLocaleString('en')} in all`);
  await see(false);
  await textIs(page.locator('#all-requests'), new RegExp(`^${(before + 200).toLocaleString('en')} in all$`));
  const mistakes = page.mistakes.length;
  await world.stop('SIGKILL');
  await textIs(page.locator('#live-text'), /^no connection$/);
  await page.setViewportSize({ width: 1440, height: 1000 });
  // The values are grey, and the time of the last ones is shown.
  const since = await page.evaluate(() => clock(ticks.at(-1).at));
  await textIs(page.locator('#stale'), new RegExp(`since ${since}`));
  const colours = () => page.evaluate(() => ['#n-requests', '.who b', '.share > span', '#about'].map(of => getComputedStyle(document.querySelector(of)).color));
  const grey = await colours();
  assert.ok(grey.every(colour => colour === grey.at(-1)), `${grey}`);
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    await page.screenshot({ path: join(options.pictures, `lost-1440-${colorScheme}.png`) });
  }
  await page.emulateMedia({ colorScheme: null });
  await page.getByRole('button', { name: 'Remove blue' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Remove' }).click();
  await textIs(page.locator('#remove-error'), /^lb does not respond$/);
  await page.keyboard.press('Escape');
  await world.balance();
  await isLive(page);
  assert.equal(await page.locator('#stale').textContent(), '');
  assert.notDeepEqual(await colours(), grey);
  await textIs(page.locator('#log'), /lb was restarted/);
  // The browser reports failed connections while lb is down.
  assert.ok(page.mistakes.splice(mistakes).every(line => /ERR_CONNECTION|ERR_INCOMPLETE|ERR_EMPTY|ERR_SOCKET/.test(line)));
  return 'hidden, it closes its stream; visible again, it shows what it missed; after a kill of lb its values are grey, after a restart it is live';
}

/** The machine's clock is set back by an hour while the page is open: the page goes on and reports no restart. */
async function clockSetBack({ world, page }) {
  await isLive(page);
  const before = (await world.scrape())('lb_requests_total'), told = await page.locator('#log').innerText();
  const at = await page.evaluate(() => {
    const real = take;
    take = tick => real({ ...tick, at: tick.at - 3600e3 });
    return ticks.at(-1).at;
  });
  await until(page, at => ticks.at(-1).at < at - 3500e3, at);
  await world.send(100);
  await textIs(page.locator('#all-requests'), new RegExp(`^${(before + 100).toLocaleString('en')} in all$`));
  assert.ok(await page.evaluate(() => ticks.every((tick, i) => !i || tick.at > ticks[i - 1].at)), 'older ticks are shifted');
  assert.equal((await page.locator('#log').innerText()).match(/restarted/g)?.length, told.match(/restarted/g)?.length);
  await page.reload();
  await isLive(page);
  return 'with the clock set back by an hour, the page goes on, and older ticks keep their place in the chart';
}

/** With a token: the form, a cookie that scripts cannot read, and the sign-out. */
async function login({ browser }) {
  const world = await new World(options.lb, plugins).start(['one'], ordinary, TOKEN);
  try {
    const page = await open(browser, world, { colorScheme: 'dark', viewport: { width: 390, height: 700 } });
    await page.getByLabel('Admin token').fill('wrong');
    await page.keyboard.press('Enter');
    await textIs(page.getByRole('alert'), /not the token/);
    await page.screenshot({ path: join(options.pictures, 'login-390-dark.png') });
    await page.getByLabel('Admin token').fill(TOKEN);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await isLive(page);
    const [cookie] = await page.context().cookies();
    assert.deepEqual([cookie.httpOnly, cookie.sameSite], [true, 'Strict']);
    assert.equal(await page.evaluate(() => document.cookie), '');
    await page.getByRole('button', { name: 'Drain one' }).click();
    await textIs(rowOf(page, 'one').locator('.chip'), /^drain/);
    const address = world.servers.get('one');
    await page.getByRole('button', { name: 'Add servers' }).click();
    await page.getByLabel('Name', { exact: true }).fill('two');
    await page.getByLabel('Address').fill(address);
    await page.getByRole('dialog').getByRole('button', { name: 'Add' }).click();
    await textIs(rowOf(page, 'two').locator('.who'), new RegExp(address));
    await page.getByRole('button', { name: 'Remove two' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Remove' }).click();
    await rowOf(page, 'two').waitFor({ state: 'detached', timeout: PATIENCE_MS });
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByLabel('Admin token').waitFor({ timeout: PATIENCE_MS });
    // The only errors in the console are the 401 responses that show the form.
    assert.ok(page.mistakes.every(line => line.includes('401')), `${page.mistakes}`);
    return 'a wrong token is reported, the right one gives a cookie that is HttpOnly and SameSite=Strict, servers are added and removed with it, and signing out ends it';
  } finally {
    await world.end();
  }
}

/** The number of waiting requests and the adaptive limit. */
async function queue({ browser }) {
  const settings = '[health]\ninterval_ms = 86400000\n[limits]\nrequests_in_flight_per_backend = 1\n[queue]\nadaptive = true\nwait_ms = 600000\n';
  const world = await new World(options.lb, plugins).start(['one'], servers => settings + ordinary(servers));
  try {
    const page = await open(browser, world), chip = page.locator('.pool-head .chip', { hasText: 'waiting' });
    await textIs(chip, /^0 waiting, limit 20$/);
    const stall = isOn => world.ask(world.servers.get('one'), 'POST', '/control', { stall: isOn });
    await stall(true);
    const sent = world.send(4);
    sent.catch(() => {}); // if the step fails before it waits for them
    await textIs(chip, /^3 waiting, limit 20$/);
    assert.equal(await chip.getAttribute('data-s'), 'warn');
    await page.screenshot({ path: join(options.pictures, 'queue-1440.png') });
    await stall(false);
    await sent;
    await textIs(chip, /^0 waiting, limit \d+$/);
    assert.deepEqual([await chip.getAttribute('data-s'), page.mistakes], ['ok', []]);
    return 'three of four requests wait for a stalled server, and none does after it';
  } finally {
    await world.end();
  }
}

/** 300 servers. The page shows the first rows and those that need a look, and all of them on request. */
async function many({ browser }) {
  const count = 300, ids = Array.from({ length: count }, (_, i) => `s${i + 1}`);
  const list = servers => backends(new Map(ids.map(id => [id, servers.get('one')])));
  const world = await new World(options.lb, plugins).start(['one'], servers => `[health]\ninterval_ms = 60000\n[strategy]\nname = "round_robin"\n${list(servers)}`);
  try {
    const page = await open(browser, world), rows = page.locator('.row:not(.head)');
    const shows = n => until(page, n => [...document.querySelectorAll('.row:not(.head)')].filter(row => row.checkVisibility()).length === n, n);
    await shows(20);
    assert.deepEqual([await rows.count(), await page.locator('[role=table]').getAttribute('aria-rowcount')], [count, String(count + 1)]);
    assert.equal((await world.ask(world.admin, 'POST', '/backends/s250/drain')).status, 200);
    await shows(21);
    await textIs(rowOf(page, 's250').locator('.chip'), /^drain(ed|ing)$/);
    await world.send(600);
    await textIs(page.locator('#all-requests'), /^600 in all$/);
    await page.getByRole('button', { name: `Show all ${count}` }).click();
    await shows(count);
    const answered = await rows.evaluateAll(rows => rows.map(row => Number(row.querySelector('[data-label^="Req"] .all').textContent)));
    assert.deepEqual([answered.reduce((sum, n) => sum + n), answered[249]], [600, 0]);
    assert.ok(Math.max(...answered) <= 3, `each server got its part: ${answered}`);
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'nothing is wider than the page');
    await page.getByRole('button', { name: 'Show fewer' }).click();
    await shows(21);
    // While a page is open, lb records, so a page that opens later has the past.
    const later = await open(browser, world);
    await isLive(later);
    assert.equal(await later.evaluate(() => ticks[0].requests), 0);
    assert.deepEqual([page.mistakes, later.mistakes], [[], []]);
    return `20 of ${count} rows, and the one of a drained server; on request all, whose requests sum to 600`;
  } finally {
    await world.end();
  }
}

const STEPS = { numbers, keyboard, shares, servers, names, ring, news, accessible, pictures, login, queue, many, comesBack, clockSetBack };

const began = performance.now();
const browser = await chromium.launch({ executablePath: options.chromium, args: ['--no-sandbox'] });
const world = await new World(options.lb, plugins).start(IDS, ordinary);
try {
  const page = await open(browser, world);
  for (const [name, step] of Object.entries(STEPS)) {
    const since = performance.now();
    const found = await step({ world, page, browser });
    assert.deepEqual(page.mistakes, [], `the console after ${name}`);
    console.log(`${name.padEnd(10)} ${((performance.now() - since) / 1000).toFixed(1).padStart(5)} s  ${found}`);
  }
  console.log(`all steps passed, no error in the console (${((performance.now() - began) / 1000).toFixed(0)} s)`);
} catch (error) {
  console.error(`${error.message}\n--- the end of lb's log\n${world.balancer?.log.split('\n').slice(-12).join('\n')}`);
  process.exitCode = 1;
} finally {
  await browser.close();
  await world.end();
}
