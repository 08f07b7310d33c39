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
const BACKENDS_FAULT = /^(connect|connect_timeout|timeout|reset|bad_response)$/;
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
    const wanted = ms < 10 ? `${ms.toFixed(2)} ms` : ms < 100 ? `${ms.toFixed(1)} ms` : ms < 1000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(2)} s`;
    assert.ok(shown.replace(/\s+/g, ' ').includes(`Latency ${name} ${wanted}`), `${name} is ${wanted} by /metrics; the page: ${shown}`);
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
  const ofRows = IDS.flatMap(id => [`Weight of ${id}`, `Set the weight of ${id}`, `Drain ${id}`]);
  assert.deepEqual(stops, ['Reload', 'Strategy for pool default', 'Put in charge', 'Roll back', ...ofRows], 'the order of the focus');

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
  await rowOf(page, 'blue').getByRole('button').last().click();
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
    await page.screenshot({ path: join(options.pictures, `live-${width}-${colorScheme}.png`), fullPage: true });
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
  await world.balance();
  await isLive(page);
  await textIs(page.locator('#log'), /lb was restarted/);
  // The browser reports failed connections while lb is down.
  assert.ok(page.mistakes.splice(mistakes).every(line => /ERR_CONNECTION|ERR_INCOMPLETE|ERR_EMPTY|ERR_SOCKET/.test(line)));
  return 'hidden, it closes its stream; visible again, it shows what it missed; after a kill and restart of lb it is live';
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
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByLabel('Admin token').waitFor({ timeout: PATIENCE_MS });
    // The only errors in the console are the 401 responses that show the form.
    assert.ok(page.mistakes.every(line => line.includes('401')), `${page.mistakes}`);
    return 'a wrong token is reported, the right one gives a cookie that is HttpOnly and SameSite=Strict, and signing out ends it';
  } finally {
    await world.end();
  }
}

const STEPS = { numbers, keyboard, ring, news, accessible, pictures, login, comesBack, clockSetBack };

const began = performance.now();
const browser = await chromium.launch({ executablePath: options.chromium, args: ['--no-sandbox'] });
const world = new World(options.lb, plugins);
try {
  await world.start(IDS, ordinary);
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
