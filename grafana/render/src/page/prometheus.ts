// Queries and data frames as Grafana's Prometheus data source makes them.

import { DataFrame, FieldType, Labels, createDataFrame, rangeUtil, dateTime } from '@grafana/data';
import { Annotation, Request, Target } from './request';

interface Series {
  metric: Labels;
  values: Array<[number, string]>;
}

/** A moment marked on all panels. */
export interface Mark {
  at: number;
  title: string;
  color: string;
}

/** The step for a panel of this width: at most one point per pixel, and not more points than scrapes. */
export function stepSeconds(request: Request, width: number): number {
  const range = { from: dateTime(request.from), to: dateTime(request.to), raw: { from: '', to: '' } };
  return rangeUtil.calculateInterval(range, Math.ceil(width), `${request.scrapeSeconds}s`).intervalMs / 1000;
}

/** The expression with its variables filled in, all with the value All. */
export function fill(expr: string, request: Request, step: number): string {
  const known: Record<string, string> = {
    __rate_interval: `${Math.max(step + request.scrapeSeconds, 4 * request.scrapeSeconds)}s`,
    __interval: `${step}s`,
    __from: String(Math.round(request.from)),
    __to: String(Math.round(request.to)),
  };
  for (const variable of request.dashboard.templating?.list ?? []) {
    if (variable.allValue) {
      known[variable.name] = variable.allValue;
    }
  }
  return expr.replace(/\$\{?(\w+)\}?/g, (_, name: string) => {
    if (!(name in known)) {
      throw new Error(`there is no variable $${name}: ${expr}`);
    }
    return known[name];
  });
}

/** The frames of one target of a panel. `value` is the name of the values in a table. */
export async function ask(target: Target, request: Request, width: number, value: string): Promise<DataFrame[]> {
  const step = stepSeconds(request, width);
  const query = fill(target.expr, request, step);
  const series = target.instant ? await instant(query, request) : await range(query, request, step);
  if (target.format === 'table') {
    return series.length ? [table(target, series, value)] : [];
  }
  return series.map((one) => {
    const name = legend(target, one.metric, query);
    return createDataFrame({
      refId: target.refId,
      name,
      fields: [
        // The step determines the gaps.
        { name: 'Time', type: FieldType.time, values: one.values.map(([at]) => at * 1000), config: { interval: step * 1000 } },
        {
          name: 'Value',
          type: FieldType.number,
          values: one.values.map(([, value]) => number(value)),
          labels: one.metric,
          config: { displayNameFromDS: name },
        },
      ],
    });
  });
}

/** The times of the marks of an annotation. */
export async function marks(annotation: Annotation, request: Request): Promise<Mark[]> {
  const step = stepSeconds(request, 1000);
  const found = new Map<number, Mark>();
  for (const one of await range(fill(annotation.expr, request, step), request, step)) {
    const title = (annotation.titleFormat ?? '').replace(/{{\s*(\w+)\s*}}/g, (_, label: string) => one.metric[label] ?? '');
    // A state that lasts is one mark, at its begin.
    for (const [at, value] of annotation.useValueForTime === 'on' ? one.values : one.values.slice(0, 1)) {
      const when = annotation.useValueForTime === 'on' ? number(value) : at * 1000;
      found.set(when, { at: when, title, color: annotation.iconColor });
    }
  }
  return [...found.values()];
}

async function range(query: string, request: Request, step: number): Promise<Series[]> {
  const aligned = (at: number) => Math.floor(at / 1000 / step) * step;
  return get('query_range', { query, start: aligned(request.from), end: aligned(request.to), step });
}

async function instant(query: string, request: Request): Promise<Series[]> {
  const answer: Array<{ metric: Labels; value: [number, string] }> = await get('query', { query, time: request.to / 1000 });
  return answer.map(({ metric, value }) => ({ metric, values: [value] }));
}

async function get(path: string, parameters: Record<string, string | number>) {
  const body = new URLSearchParams(Object.entries(parameters).map(([name, value]) => [name, String(value)]));
  const answer = await (await fetch(`/api/v1/${path}`, { method: 'POST', body })).json();
  if (answer.status !== 'success') {
    throw new Error(`${answer.error}: ${parameters.query}`);
  }
  return answer.data.result;
}

function number(written: string): number {
  return written === '+Inf' ? Infinity : written === '-Inf' ? -Infinity : Number(written);
}

function legend(target: Target, labels: Labels, query: string): string {
  if (target.legendFormat && target.legendFormat !== '__auto') {
    return target.legendFormat.replace(/{{\s*(\w+)\s*}}/g, (_, label: string) => labels[label] ?? '');
  }
  const { __name__, ...rest } = labels;
  const written = Object.entries(rest).map(([name, value]) => `${name}="${value}"`);
  return (__name__ ?? '') + (written.length ? `{${written.join(', ')}}` : '') || query;
}

/** A table with one row for each series: time, labels and value. */
function table(target: Target, series: Series[], value: string): DataFrame {
  const labels = [...new Set(series.flatMap((one) => Object.keys(one.metric)))].sort();
  return createDataFrame({
    refId: target.refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: series.map((one) => one.values[0][0] * 1000) },
      ...labels.map((label) => ({ name: label, type: FieldType.string, values: series.map((one) => one.metric[label] ?? '') })),
      { name: value, type: FieldType.number, values: series.map((one) => number(one.values[0][1])) },
    ],
  });
}
