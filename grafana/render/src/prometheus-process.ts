// A Prometheus for the queries: a running one, or one started on the data of story.py.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';

export interface Prometheus {
  url: string;
  /** The time range to draw, in milliseconds of the Unix epoch. */
  from: number;
  to: number;
  scrapeSeconds: number;
  stop: () => Promise<void>;
}

export function attached(url: string, minutes: number, scrapeSeconds: number): Prometheus {
  const to = Date.now();
  return { url, from: to - minutes * 60_000, to, scrapeSeconds, stop: async () => {} };
}

/** Starts a Prometheus that scrapes nothing and ends with `stop`. */
export async function started(data: string): Promise<Prometheus> {
  const story = JSON.parse(await readFile(path.join(data, 'story.json'), 'utf8'));
  const folder = await mkdtemp(path.join(tmpdir(), 'lb-draw-'));
  const config = path.join(folder, 'prometheus.yml');
  await writeFile(config, '{}\n');
  const address = `127.0.0.1:${await freePort()}`;
  const storage = [`--storage.tsdb.path=${path.join(data, 'prometheus')}`, '--storage.tsdb.retention.time=10y'];
  const child = spawn('prometheus', [`--config.file=${config}`, ...storage, `--web.listen-address=${address}`], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.on('data', (more) => (said = (said + more).slice(-2000)));
  const ended = once(child, 'exit').catch((failure) => (said = String(failure)));
  const stop = async () => {
    child.kill();
    await ended;
    await rm(folder, { recursive: true });
  };
  const url = `http://${address}`;
  const until = Date.now() + 30_000;
  while (!(await isReady(url))) {
    if (child.exitCode !== null || child.pid === undefined || Date.now() > until) {
      await stop();
      throw new Error(`prometheus did not start: ${said}`);
    }
    await new Promise((later) => setTimeout(later, 100));
  }
  return { url, from: story.from * 1000, to: story.to * 1000, scrapeSeconds: story.scrape_seconds, stop };
}

async function isReady(url: string): Promise<boolean> {
  return fetch(`${url}/-/ready`).then((answer) => answer.ok, () => false);
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
