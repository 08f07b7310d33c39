// A canvas with a time axis below and names to the left, for the two kinds of panel whose code Grafana does not publish.

import { useLayoutEffect, useRef } from 'react';
import { GrafanaTheme2, dateTimeFormat, systemDateFormats } from '@grafana/data';
import { useTheme2 } from '@grafana/ui';
import { drawMarks } from './marks';
import { Mark } from './prometheus';
import { Request } from './request';

const AXIS = 26;
const TICKS_SECONDS = [1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];

export interface Plot {
  context: CanvasRenderingContext2D;
  theme: GrafanaTheme2;
  left: number;
  top: number;
  width: number;
  height: number;
  /** The x coordinate of a time in milliseconds. */
  x: (at: number) => number;
}

interface Props {
  request: Request;
  marks: Mark[];
  width: number;
  height: number;
  /** The texts to the left, each with its vertical place from 0 (top) to 1. */
  names: Array<{ text: string; at: number }>;
  draw: (plot: Plot) => void;
}

export function TimePlot({ request, marks, width, height, names, draw }: Props) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const theme = useTheme2();
  useLayoutEffect(() => {
    const scale = window.devicePixelRatio;
    const context = canvas.current!.getContext('2d')!;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = `12px ${theme.typography.fontFamily}`;
    context.fillStyle = theme.colors.text.primary;
    const left = Math.ceil(Math.max(...names.map((name) => context.measureText(name.text).width))) + 10;
    const box = { left, top: 6, width: width - left - 12, height: height - AXIS - 6 };
    const x = (at: number) => box.left + ((at - request.from) / (request.to - request.from)) * box.width;
    context.save();
    draw({ context, theme, ...box, x });
    context.restore();
    context.textBaseline = 'middle';
    context.textAlign = 'right';
    for (const name of names) {
      context.fillText(name.text, left - 8, box.top + name.at * box.height);
    }
    drawTimes(context, box, x, request);
    context.setTransform(1, 0, 0, 1, 0, 0);
    const whole = { left: box.left * scale, top: box.top * scale, width: box.width * scale, height: box.height * scale };
    drawMarks(context, whole, marks, (at) => x(at) * scale, theme);
  });
  const pixels = { width: width * window.devicePixelRatio, height: height * window.devicePixelRatio };
  return <canvas ref={canvas} {...pixels} style={{ width, height, display: 'block' }} />;
}

function drawTimes(context: CanvasRenderingContext2D, box: Omit<Plot, 'context' | 'theme' | 'x'>, x: Plot['x'], request: Request) {
  const range = (request.to - request.from) / 1000;
  const every = TICKS_SECONDS.find((seconds) => (seconds / range) * box.width > 60) ?? range;
  const format = every <= 60 ? systemDateFormats.interval.second : systemDateFormats.interval.minute;
  context.textAlign = 'center';
  context.textBaseline = 'top';
  for (let at = Math.ceil(request.from / 1000 / every) * every; at <= request.to / 1000; at += every) {
    const text = dateTimeFormat(at * 1000, { format, timeZone: request.timeZone });
    const half = context.measureText(text).width / 2;
    if (x(at * 1000) - half > 0 && x(at * 1000) + half < box.left + box.width + 12) {
      context.fillText(text, x(at * 1000), box.top + box.height + 10);
    }
  }
}
