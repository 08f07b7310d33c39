// Draws the dashboard: starts a Prometheus on the data of story.py (or uses a running one), shows the page in a headless
// Chromium, takes a dark and a light picture, and checks both as far as a program can.
//
// Exit codes: 0 drawn without findings, 1 drawn with findings (one line each), 2 could not be drawn.

import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import puppeteer, { Browser, Page } from 'puppeteer-core';
import type { DashboardFile, Request } from './page/request';
import { compact } from './picture';
import { Prometheus, attached, started } from './prometheus-process';
import { HERE, bundle, serve } from './site';

const HELP = `Draws grafana/dashboards/lb.json with Grafana's component libraries and a headless Chromium.

  npm run draw -- --data DIR          the data that story.py stored in DIR
  npm run draw -- --prometheus URL    the last half hour of a running Prometheus

  --out DIR          folder of dashboard.png and dashboard-dark.png (default: build)
  --theme THEME      dark or light (default: both)
  --minutes N        with --prometheus: length of the time range (default: 30)
  --scrape N         with --prometheus: its scrape interval in seconds (default: 5)
  --width N          width of the page in pixels (default: 1600)
  --scale N          pixels of the picture for each pixel of the page (default: 1)
  --rows N           only the first N rows
  --expand           draw collapsed rows as open
  --may-be-empty T   the panel with this title may have no data; may be repeated
  --chromium PATH    the program Chromium (default: /usr/bin/chromium)

Exit code 0: no findings, 1: findings, one line each, 2: the dashboard could not be drawn.
`;

function options() {
  const text = (value: string) => ({ type: 'string', default: value }) as const;
  const { values } = parseArgs({
    options: {
      data: { type: 'string' },
      prometheus: { type: 'string' },
      out: text(path.join(HERE, 'build')),
      theme: { type: 'string', multiple: true, default: ['dark', 'light'] },
      minutes: text('30'),
      scrape: text('5'),
      width: text('1600'),
      scale: text('1'),
      rows: text('all'),
      expand: { type: 'boolean', default: false },
      'may-be-empty': { type: 'string', multiple: true, default: [] },
      chromium: text('/usr/bin/chromium'),
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (!values.help && !values.data === !values.prometheus) {
    throw new Error('give either --data or --prometheus (see --help)');
  }
  for (const name of ['minutes', 'scrape', 'width', 'scale'] as const) {
    if (!(Number(values[name]) > 0)) {
      throw new Error(`--${name} ${values[name]}: must be a number above 0`);
    }
  }
  if (!values.theme.every((theme) => ['dark', 'light'].includes(theme))) {
    throw new Error(`--theme ${values.theme}: must be dark or light`);
  }
  return values;
}

type Options = ReturnType<typeof options>;

async function main(): Promise<number> {
  const given = options();
  if (given.help) {
    console.log(HELP);
    return 0;
  }
  const page = await bundle();
  const dashboard = await firstRows(given.rows);
  const prometheus = given.data ? await started(given.data) : attached(given.prometheus!, Number(given.minutes), Number(given.scrape));
  try {
    const browser = await puppeteer.launch({ executablePath: given.chromium, args: ['--no-sandbox', '--force-color-profile=srgb'] });
    try {
      await mkdir(given.out, { recursive: true });
      let found = 0;
      for (const theme of given.theme as Array<Request['theme']>) {
        const site = await serve(request(dashboard, prometheus, theme, given.expand), prometheus.url, page);
        found += await draw(browser, site.url, theme, given);
        site.close();
      }
      return found ? 1 : 0;
    } finally {
      await browser.close();
    }
  } finally {
    await prometheus.stop();
  }
}

async function firstRows(count: string): Promise<DashboardFile> {
  const dashboard: DashboardFile = JSON.parse(await readFile(path.resolve(HERE, '../dashboards/lb.json'), 'utf8'));
  const next = dashboard.panels.filter((panel) => panel.type === 'row')[Number(count)];
  return { ...dashboard, panels: next ? dashboard.panels.filter((panel) => panel.gridPos.y < next.gridPos.y) : dashboard.panels };
}

function request(dashboard: DashboardFile, { from, to, scrapeSeconds }: Prometheus, theme: Request['theme'], expand: boolean): Request {
  return { dashboard, from, to, scrapeSeconds, theme, expand, timeZone: 'UTC' };
}

/** Draws one picture. Returns the number of findings. */
async function draw(browser: Browser, url: string, theme: string, given: Options): Promise<number> {
  const tab = await browser.newPage();
  const complaints = complaintsOf(tab);
  const size = { width: Number(given.width), deviceScaleFactor: Number(given.scale) };
  await tab.setViewport({ ...size, height: 1000 });
  await tab.goto(url);
  await tab.waitForFunction('look.isDone()', { timeout: 60_000 });
  await tab.waitForNetworkIdle({ idleTime: 300 });
  // Tables draw only the visible part, so the view must have the full height.
  const height = (await tab.evaluate('document.documentElement.scrollHeight')) as number;
  await tab.setViewport({ ...size, height });
  await tab.waitForNetworkIdle({ idleTime: 300 });
  const picture = path.join(given.out, theme === 'dark' ? 'dashboard-dark.png' : 'dashboard.png');
  await writeFile(picture, compact(await tab.screenshot()));
  const found = (await tab.evaluate(`look.findings(${JSON.stringify(given['may-be-empty'])})`)) as string[];
  await tab.close();
  const lines = [...new Set([...found, ...complaints])];
  lines.forEach((line) => console.log(`${theme}: ${line}`));
  console.log(`${picture}: ${lines.length || 'no'} findings`);
  return lines.length;
}

/** Collects the errors of the browser. */
function complaintsOf(tab: Page): string[] {
  const complaints: string[] = [];
  tab.on('pageerror', (failure) => complaints.push(String(failure)));
  tab.on('requestfailed', (one) => complaints.push(`${one.url()} ${one.failure()?.errorText}`));
  tab.on('response', (one) => one.status() >= 400 && complaints.push(`${one.status()} ${one.url()}`));
  tab.on('console', (one) => one.type() === 'error' && complaints.push(one.text()));
  return complaints;
}

main().then(
  (code) => (process.exitCode = code),
  (failure) => {
    console.error(`draw: ${failure.message}`);
    process.exitCode = 2;
  }
);
