// The component for each type of panel: Grafana's own if it is published, ours for the other two.

import { ComponentType, useMemo } from 'react';
import { DataFrame, TimeRange, dateTime, getDisplayValueAlignmentFactors, getFieldDisplayValues } from '@grafana/data';
import { BigValue, TimeSeries, VizRepeater, useTheme2 } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import { Heatmap } from './heatmap';
import { MarksOnPlot } from './marks';
import { Drawing } from './panel-box';
import { Request } from './request';
import { StateTimeline } from './state-timeline';

export const drawings: Record<string, ComponentType<Drawing>> = {
  stat: Stat,
  timeseries: Lines,
  table: Table,
  heatmap: Heatmap,
  'state-timeline': StateTimeline,
};

export function timeRange({ from, to }: Request): TimeRange {
  return { from: dateTime(from), to: dateTime(to), raw: { from: dateTime(from), to: dateTime(to) } };
}

function Stat({ panel, frames, request, width, height }: Drawing) {
  const theme = useTheme2();
  const options = panel.options as any;
  const values = () =>
    getFieldDisplayValues({
      data: frames,
      fieldConfig: panel.fieldConfig as never,
      reduceOptions: options.reduceOptions,
      replaceVariables: (text) => text,
      theme,
      timeZone: request.timeZone,
      sparkline: options.graphMode !== 'none',
    });
  return (
    <VizRepeater
      getValues={values}
      getAlignmentFactors={getDisplayValueAlignmentFactors}
      renderValue={({ value, alignmentFactors, width, height, count }) => (
        <BigValue
          value={value.display}
          sparkline={value.sparkline && { ...value.sparkline, timeRange: timeRange(request) }}
          count={count}
          colorMode={options.colorMode}
          graphMode={options.graphMode}
          justifyMode={options.justifyMode}
          textMode={options.textMode}
          text={options.text}
          disableWideLayout={!options.wideLayout}
          alignmentFactors={alignmentFactors}
          width={width}
          height={height}
          theme={theme}
        />
      )}
      source={frames}
      orientation={options.orientation}
      itemSpacing={3}
      renderCounter={0}
      autoGrid
      width={width}
      height={height}
    />
  );
}

function Lines({ panel, frames, marks, request, width, height }: Drawing) {
  const range = useMemo(() => timeRange(request), [request]);
  const graphed = useMemo(() => graphable(frames), [frames]);
  const options = panel.options as any;
  return (
    <TimeSeries
      frames={graphed}
      timeRange={range}
      timeZone={request.timeZone}
      legend={options.legend}
      options={options}
      width={width}
      height={height}
    >
      {(builder) => <MarksOnPlot builder={builder} marks={marks} />}
    </TimeSeries>
  );
}

/** Like Grafana's panel: a value that is not a finite number becomes a gap. */
function graphable(frames: DataFrame[]): DataFrame[] {
  return frames.map((frame) => ({
    ...frame,
    fields: frame.fields.map((field) => ({ ...field, values: field.values.map((value) => (Number.isFinite(value) ? value : null)) })),
  }));
}

function Table({ panel, frames, width, height }: Drawing) {
  const options = panel.options as any;
  return (
    <TableNG
      data={frames[options.frameIndex ?? 0]}
      width={width}
      height={height}
      noHeader={!options.showHeader}
      cellHeight={options.cellHeight}
      sortBy={options.sortBy}
      fieldConfig={panel.fieldConfig as never}
      noValue={panel.fieldConfig?.defaults.noValue}
      enableVirtualization={false}
    />
  );
}
