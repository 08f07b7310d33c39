// The page, and a server for it on a free port. It serves the request to draw, Grafana's icons and fonts, and forwards
// /api to Prometheus.

import { build } from 'esbuild';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { IncomingMessage, createServer } from 'node:http';
import { AddressInfo } from 'node:net';
import path from 'node:path';
import type { Request } from './page/request';

/** The folder of package.json; programs are built into the folder build beside it. */
export const HERE = path.resolve(import.meta.dirname, '..');

const HTML = `<!doctype html><title>dashboard</title><link rel="stylesheet" href="/page.css"><style>
  @font-face { font-family: Inter; font-weight: 400; src: url(/public/fonts/inter/Inter-Regular.woff2) }
  @font-face { font-family: Inter; font-weight: 500; src: url(/public/fonts/inter/Inter-Medium.woff2) }
  body { margin: 0 }
</style><div id="root"></div><script src="/page.js"></script>`;

interface Page {
  script: string;
  style: string;
}

export async function bundle(): Promise<Page> {
  const made = await build({
    entryPoints: [path.join(HERE, 'src/page/main.tsx')],
    bundle: true,
    write: false,
    outdir: 'memory',
    minify: true,
    format: 'iife',
    target: 'chrome120',
    define: { 'process.env.NODE_ENV': '"production"' },
    // Fonts of an editor, which no panel shows.
    loader: { '.ttf': 'empty' },
    logLevel: 'error',
  });
  const [script, style] = ['.js', '.css'].map((end) => made.outputFiles.find((file) => file.path.endsWith(end))!.text);
  return { script, style };
}

/** Serves the page until `close`. */
export async function serve(request: Request, prometheus: string, page: Page): Promise<{ url: string; close: () => void }> {
  const made: Record<string, [string, string]> = {
    '/': ['text/html', HTML],
    '/page.js': ['text/javascript', page.script],
    '/page.css': ['text/css', page.style],
    '/request.json': ['application/json', JSON.stringify(request)],
    '/favicon.ico': ['image/x-icon', ''],
  };
  const server = createServer(async (asked, answer) => {
    const url = asked.url ?? '/';
    try {
      const [type, content] = url.startsWith('/api/') ? await passedOn(asked, prometheus) : (made[url] ?? (await ofGrafana(url)));
      answer.writeHead(200, { 'content-type': type }).end(content);
    } catch (failure) {
      answer.writeHead(404).end(String(failure));
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, close: () => server.close() };
}

async function passedOn(asked: IncomingMessage, prometheus: string): Promise<[string, string]> {
  const body = Buffer.concat(await asked.toArray());
  const headers = { 'content-type': asked.headers['content-type'] ?? '' };
  const answer = await fetch(new URL(asked.url!, prometheus), { method: 'POST', body, headers });
  return ['application/json', await answer.text()];
}

async function ofGrafana(url: string): Promise<[string, Buffer]> {
  const modules = path.join(HERE, 'node_modules');
  const icon = url.match(/^\/public\/build\/(img\/icons\/[\w/-]+\.svg)$/);
  if (icon) {
    return ['image/svg+xml', await readFile(path.join(modules, '@grafana/ui/dist/public', icon[1]))];
  }
  const font = url.match(/^\/public\/fonts\/inter\/Inter-(Regular|Medium)\.woff2$/);
  if (font) {
    const weight = { Regular: 400, Medium: 500 }[font[1]];
    return ['font/woff2', await readFile(path.join(modules, `@fontsource/inter/files/inter-latin-${weight}-normal.woff2`))];
  }
  throw new Error(`there is no file at ${url}`);
}
