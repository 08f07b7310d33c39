// Panels of type state-timeline: one lane for each series, and one box for each period of one state.

import { DataFrame, Field, FieldType, getFieldDisplayName } from '@grafana/data';
import { VizLayout, VizLegend } from '@grafana/ui';
import { LegendDisplayMode } from '@grafana/schema';
import { Plot, TimePlot } from './axes';
import { Drawing } from './panel-box';
import { stepSeconds } from './prometheus';

interface Lane {
  name: string;
  boxes: Array<{ from: number; to: number; text: string; color: string }>;
}

export function StateTimeline({ panel, frames, request, marks, width, height }: Drawing) {
  const options = panel.options as any;
  const step = stepSeconds(request, width) * 1000;
  const lanes = frames.map((frame) => lane(frame, frames, step));
  const states = new Map(lanes.flatMap((one) => one.boxes.map((box) => [box.text, box.color])));
  const fill = (panel.fieldConfig!.defaults.custom!.fillOpacity as number) / 100;
  const names = lanes.map((one, index) => ({ text: one.name, at: (index + 0.5) / lanes.length }));
  const draw = (plot: Plot) => lanes.forEach((one, index) => drawLane(plot, one, index / lanes.length, options.rowHeight / lanes.length, fill, lanes.length));
  const items = [...states].map(([label, color]) => ({ label, color, yAxis: 1 }));
  const legend = options.legend.showLegend ? (
    <VizLayout.Legend placement={options.legend.placement}>
      <VizLegend placement={options.legend.placement} items={items} displayMode={LegendDisplayMode.List} readonly />
    </VizLayout.Legend>
  ) : null;
  return (
    <VizLayout width={width} height={height} legend={legend}>
      {(innerWidth, innerHeight) => <TimePlot request={request} marks={marks} names={names} draw={draw} width={innerWidth} height={innerHeight} />}
    </VizLayout>
  );
}

function lane(frame: DataFrame, frames: DataFrame[], step: number): Lane {
  const times = frame.fields.find((field) => field.type === FieldType.time)!.values as number[];
  const field = frame.fields.find((one) => one.type === FieldType.number)! as Field<number>;
  const boxes: Lane['boxes'] = [];
  times.forEach((at, index) => {
    const { text, color } = field.display!(field.values[index]);
    const last = boxes.at(-1);
    // A longer time without a value is a gap.
    const isNext = last && at - last.to < step * 1.5;
    if (isNext) {
      last.to = at;
    }
    if (!isNext || last.text !== text) {
      boxes.push({ from: at, to: at, text, color: color! });
    }
  });
  return { name: getFieldDisplayName(field, frame, frames), boxes };
}

function drawLane({ context, top, height, x }: Plot, lane: Lane, at: number, high: number, opacity: number, lanes: number) {
  for (const box of lane.boxes) {
    context.globalAlpha = opacity;
    context.fillStyle = box.color;
    const margin = (height / lanes - high * height) / 2;
    context.fillRect(x(box.from), top + at * height + margin, x(box.to) - x(box.from), high * height);
  }
}
