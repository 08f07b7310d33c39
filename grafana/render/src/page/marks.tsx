// Annotations: a dashed line over the plot and a triangle below it, at the time of an event.

import { useLayoutEffect } from 'react';
import type uPlot from 'uplot';
import { UPlotConfigBuilder, useTheme2 } from '@grafana/ui';
import { GrafanaTheme2 } from '@grafana/data';
import { Mark } from './prometheus';

export function MarksOnPlot({ builder, marks }: { builder: UPlotConfigBuilder; marks: Mark[] }) {
  const theme = useTheme2();
  // A layout effect of a child runs before its plot exists.
  useLayoutEffect(() => {
    builder.addHook('draw', (plot: uPlot) => {
      const box = { left: plot.bbox.left, top: plot.bbox.top, width: plot.bbox.width, height: plot.bbox.height };
      drawMarks(plot.ctx, box, marks, (at) => plot.valToPos(at, 'x', true), theme);
    });
  }, [builder, marks, theme]);
  return null;
}

/** Draws marks on a canvas with the plot `box`, in pixels of the canvas. */
export function drawMarks(
  context: CanvasRenderingContext2D,
  box: { left: number; top: number; width: number; height: number },
  marks: Mark[],
  position: (at: number) => number,
  theme: GrafanaTheme2
) {
  const scale = window.devicePixelRatio;
  const bottom = box.top + box.height;
  context.save();
  context.lineWidth = 2 * scale;
  for (const mark of marks) {
    const x = Math.round(position(mark.at));
    if (x < box.left || x > box.left + box.width) {
      continue;
    }
    context.strokeStyle = context.fillStyle = theme.visualization.getColorByName(mark.color);
    context.setLineDash([5 * scale, 5 * scale]);
    context.beginPath();
    context.moveTo(x, box.top);
    context.lineTo(x, bottom);
    context.stroke();
    context.beginPath();
    context.moveTo(x, bottom);
    context.lineTo(x - 4 * scale, bottom + 5 * scale);
    context.lineTo(x + 4 * scale, bottom + 5 * scale);
    context.fill();
  }
  context.restore();
}
