// The test bed of the page: an lb with mock servers, and load for it. All processes listen on free ports, use one temporary
// folder, and end with `World.end`.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { watch } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';

/** The limit of every wait. */
export const PATIENCE_MS = 30_000;

export class World {
  /** `lb` is the path of the program, with `mock-server` beside it; `plugins` is the folder of the strategies. */
  constructor(lb, plugins) {
    this.lb = resolve(lb);
    this.plugins = resolve(plugins);
    this.children = new Map();
    this.agent = new http.Agent({ keepAlive: true, maxSockets: 64 });
  }

  /** Starts a server for each id; `config` is a function from their addresses to the text of lb.toml. */
  async start(ids, config, token) {
    this.folder = await mkdtemp(join(tmpdir(), 'lb-page-'));
    this.servers = new Map();
    this.token = token;
    try {
      for (const id of ids) this.servers.set(id, await this.serve(id));
      this.file = join(this.folder, 'lb.toml');
      await writeFile(this.file, `plugin_dirs = [${JSON.stringify(this.plugins)}]\n${config(this.servers)}`);
      await this.balance();
    } catch (error) {
      // A process that is left running keeps this program alive for ever.
      await this.end();
      throw error;
    }
    return this;
  }

  /** Starts a mock server and returns its address. */
  async serve(id, port = 0) {
    const child = this.spawn(id, join(dirname(this.lb), 'mock-server'), ['--id', id, '--port', String(port), '--service-time', 'lognormal:2ms,0.5']);
    const [line] = await once(createInterface({ input: child.stdout }), 'line');
    return line.match(/listening on (\S+)/)[1];
  }

  /** Starts lb; a restarted lb gets the same admin port. */
  async balance() {
    const ready = join(this.folder, 'ready.json');
    await rm(ready, { force: true });
    const arrival = this.appears(ready);
    this.balancer = this.spawn('lb', this.lb, ['--config', this.file, '--ready-file', ready, '--set', 'proxy.listen="127.0.0.1:0"',
      '--set', `admin.listen="${this.admin ?? '127.0.0.1:0'}"`]);
    const { proxy: [proxy], admin } = JSON.parse(await arrival);
    Object.assign(this, { proxy, admin });
  }

  spawn(name, program, args) {
    const env = { PATH: process.env.PATH, HOME: this.folder, ...this.token && { LB_ADMIN_TOKEN: this.token } };
    const child = spawn(program, args, { cwd: this.folder, env, stdio: ['ignore', 'pipe', 'pipe'] });
    child.log = '';
    child.stderr.on('data', data => { child.log += data; });
    child.ended = once(child, 'exit');
    this.children.set(name, child);
    return child;
  }

  /** Waits for the JSON text of this file. The folder is watched before this function returns, so no event is missed. */
  appears(path) {
    return new Promise((good, bad) => {
      const watcher = watch(dirname(path)), end = (settle, value) => { clearTimeout(timer); watcher.close(); settle(value); };
      const fail = () => end(bad, new Error(`lb did not become ready:\n${this.balancer?.log}`));
      const timer = setTimeout(fail, PATIENCE_MS);
      watcher.on('error', error => end(bad, error)).on('change', async () => {
        const text = await readFile(path, 'utf8').catch(() => '');
        if (text.trim().endsWith('}')) end(good, text);
        else if (this.balancer?.exitCode != null) fail();
      });
    });
  }

  async kill(name) {
    const child = this.children.get(name);
    child.kill('SIGKILL');
    await child.ended;
  }

  /** Sends this signal to lb and waits for its end. */
  async stop(signal = 'SIGTERM') {
    this.balancer.kill(signal);
    await this.balancer.ended;
  }

  async end() {
    // Load that a failed step has left running.
    this.isOver = true;
    this.agent.destroy();
    for (const child of [...this.children.values()].reverse()) {
      if (child.exitCode == null && child.signalCode == null) {
        child.kill('SIGTERM');
        await child.ended;
      }
    }
    await rm(this.folder, { recursive: true });
  }

  // ── requests ──

  /** Sends one request to `address`; returns status and text. */
  ask(address, method, path, body, headers = {}) {
    const sent = body && JSON.stringify(body);
    // For DELETE, node sends a body without its length.
    const all = sent ? { ...headers, 'content-length': Buffer.byteLength(sent) } : headers;
    return new Promise((good, bad) => {
      const request = http.request(`http://${address}${path}`, { method, agent: this.agent, headers: all }, response => {
        let text = '';
        response.on('data', data => { text += data; }).on('end', () => good({ status: response.statusCode, text })).on('error', bad);
      });
      request.on('error', bad).end(sent);
    });
  }

  /** Sends `n` requests to the proxy, `clients` at a time. */
  async send(n, clients = 16) {
    let left = n, sent = 0;
    const client = async () => {
      while (left-- > 0) await this.ask(this.proxy, 'GET', '/home', null, { 'x-key': `k${sent++}` });
    };
    await Promise.all(Array.from({ length: clients }, client));
  }

  /** Sends requests until the returned function is called. */
  load(clients = 4) {
    let isOn = true, key = 0;
    const client = async () => {
      while (isOn && !this.isOver) await this.ask(this.proxy, 'GET', '/home', null, { 'x-key': `k${key++}` }).catch(() => {});
    };
    const all = Promise.all(Array.from({ length: clients }, client));
    return async () => { isOn = false; await all; };
  }

  /** Scrapes /metrics. Returns a function that sums the series of a name with the given labels. */
  async scrape() {
    const { text } = await this.ask(this.admin, 'GET', '/metrics');
    const series = [...text.matchAll(/^(\w+)(?:\{(.*)\})? (\S+)$/gm)].map(([, name, labels = '', value]) =>
      ({ name, labels: Object.fromEntries([...labels.matchAll(/(\w+)="([^"]*)"/g)].map(([, key, value]) => [key, value])), value: Number(value) }));
    const sum = (name, wanted = {}) => series.filter(one => one.name === name && Object.entries(wanted).every(([key, value]) =>
      value instanceof RegExp ? value.test(one.labels[key]) : one.labels[key] === value)).reduce((sum, one) => sum + one.value, 0);
    /** Like Prometheus' `histogram_quantile`. */
    sum.quantile = (q, name, wanted = {}) => {
      const bounds = [...new Set(series.filter(one => one.name === `${name}_bucket`).map(one => one.labels.le))].sort((a, b) => Number(a.replace('+Inf', 'Infinity')) - Number(b.replace('+Inf', 'Infinity')));
      const counts = bounds.map(le => sum(`${name}_bucket`, { ...wanted, le }));
      const rank = q * counts.at(-1), at = counts.findIndex(count => count >= rank);
      const [lower, below] = at ? [Number(bounds[at - 1]), counts[at - 1]] : [0, 0];
      return lower + (Number(bounds[at]) - lower) * (rank - below) / (counts[at] - below);
    };
    return sum;
  }
}
