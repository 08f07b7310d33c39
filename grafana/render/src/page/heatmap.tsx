// Panels of type heatmap for Prometheus' classic histograms: one row of cells for each bucket, low buckets at the bottom.

import * as schemes from 'd3-scale-chromatic';
import { DataFrame, FieldType, GrafanaTheme2, formattedValueToString, getValueFormat } from '@grafana/data';
import { useTheme2 } from '@grafana/ui';
import { Plot, TimePlot } from './axes';
import { Drawing } from './panel-box';
import { stepSeconds } from './prometheus';

interface Bucket {
  /** Upper bound of the bucket. */
  bound: number;
  counts: Map<number, number>;
}

const SCALE = 34;

export function Heatmap({ panel, frames, request, marks, width, height }: Drawing) {
  const theme = useTheme2();
  const options = panel.options as any;
  const step = stepSeconds(request, width) * 1000;
  const rows = buckets(frames);
  const most = Math.max(...rows.flatMap((row) => [...row.counts.values()]));
  const color = palette(options.color, theme);
  const format = getValueFormat(options.yAxis.unit);
  // The bound of a bucket is the upper edge of its cells.
  const names = rows.map((row, index) => ({
    text: Number.isFinite(row.bound) ? formattedValueToString(format(row.bound)) : '+Inf',
    at: 1 - (index + 1) / rows.length,
  }));
  const draw = ({ context, left, top, height, x }: Plot) => {
    const gap = options.cellGap;
    const high = height / rows.length;
    rows.forEach((row, index) => {
      for (const [at, count] of row.counts) {
        if (count > options.filterValues.le && x(at - step) >= left - 0.5) {
          context.fillStyle = color(count / most);
          context.fillRect(x(at - step), top + height - (index + 1) * high, Math.max(x(at) - x(at - step) - gap, 1), high - gap);
        }
      }
    });
  };
  const cellFormat = getValueFormat(options.cellValues.unit);
  const legendText = (value: number) => formattedValueToString(cellFormat(value, options.cellValues.decimals));
  const steps = Array.from({ length: options.color.steps }, (_, index) => color(index / (options.color.steps - 1)));
  return (
    <>
      <TimePlot request={request} marks={marks} names={everyOther(names, height - SCALE)} draw={draw} width={width} height={height - SCALE} />
      {options.legend.show && (
        <div style={{ ...theme.typography.bodySmall, width: 300, marginLeft: 'auto', paddingTop: 6 }}>
          <div style={{ height: 8, background: `linear-gradient(to right, ${steps.join(',')})` }} />
          <div style={{ display: 'flex', justifyContent: 'space-between' }}>
            <span>{legendText(0)}</span>
            <span>{legendText(most)}</span>
          </div>
        </div>
      )}
    </>
  );
}

/** Turns cumulative counts into counts between two bounds. */
function buckets(frames: DataFrame[]): Bucket[] {
  const cumulative = frames.map((frame) => {
    const [times, counts] = [FieldType.time, FieldType.number].map((type) => frame.fields.find((field) => field.type === type)!);
    const le = counts.labels!.le;
    return { bound: le === '+Inf' ? Infinity : Number(le), counts: new Map<number, number>(times.values.map((at, index) => [at, counts.values[index]])) };
  });
  cumulative.sort((a, b) => a.bound - b.bound);
  return cumulative.map(({ bound, counts }, index) => {
    const below = cumulative[index - 1]?.counts;
    return { bound, counts: new Map([...counts].map(([at, count]) => [at, Math.max(0, count - (below?.get(at) ?? 0))])) };
  });
}

/** d3's colour scheme of that name. As in Grafana, small counts have the colour near the background. */
function palette(options: { scheme: string; steps: number; reverse: boolean }, theme: GrafanaTheme2): (share: number) => string {
  const scheme = (schemes as unknown as Record<string, (share: number) => string>)[`interpolate${options.scheme}`];
  if (!scheme) {
    throw new Error(`there is no colour scheme ${options.scheme}`);
  }
  const turned = theme.isDark !== options.reverse;
  return (share) => {
    const quantised = Math.round(share * (options.steps - 1)) / (options.steps - 1);
    return scheme(turned ? 1 - quantised : quantised);
  };
}

/** As many names as fit. */
function everyOther<T>(names: T[], height: number): T[] {
  const every = Math.ceil((names.length * 16) / height);
  return names.filter((_, index) => (names.length - 1 - index) % every === 0);
}
