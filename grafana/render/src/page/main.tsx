// The page that Chromium draws: the whole dashboard, on Grafana's grid of 24 columns, with Grafana's theme.

import { createRoot } from 'react-dom/client';
import { GrafanaTheme2, ThemeContext, createTheme } from '@grafana/data';
import { GlobalStyles, Icon, PortalContainer } from '@grafana/ui';
import { restoreThresholds } from './fields';
import { watchCanvasText } from './look';
import { PanelBox } from './panel-box';
import { Mark, marks } from './prometheus';
import { FilePanel, Request } from './request';
import { registerTransformations } from './transformations';

const ROW_HEIGHT = 30;
const GAP = 8;
const PADDING = 16;

async function main() {
  watchCanvasText();
  registerTransformations();
  const request: Request = await (await fetch('/request.json')).json();
  restoreThresholds(request.dashboard.panels);
  const annotations = request.dashboard.annotations.list.filter((one) => one.enable && !one.builtIn);
  const found = (await Promise.all(annotations.map((one) => marks(one, request)))).flat();
  // Texts must be measured after the fonts are loaded.
  await Promise.all(['400 12px Inter', '500 12px Inter'].map((font) => document.fonts.load(font)));
  const theme = createTheme({ colors: { mode: request.theme } });
  document.body.style.background = theme.colors.background.canvas;
  createRoot(document.getElementById('root')!).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <DashboardPage request={request} marks={found} theme={theme} />
      <PortalContainer />
    </ThemeContext.Provider>
  );
}

function DashboardPage({ request, marks, theme }: { request: Request; marks: Mark[]; theme: GrafanaTheme2 }) {
  const width = document.documentElement.clientWidth - 2 * PADDING;
  const column = (width + GAP) / 24;
  const panels = laidOut(request);
  const rows = Math.max(...panels.map(({ gridPos }) => gridPos.y + gridPos.h));
  return (
    <div style={{ padding: PADDING }}>
      <Controls request={request} theme={theme} />
      <div style={{ position: 'relative', height: rows * (ROW_HEIGHT + GAP) }}>
        {panels.map((panel, index) => {
          const { x, y, w, h } = panel.gridPos;
          const place = { left: x * column, top: y * (ROW_HEIGHT + GAP), width: w * column - GAP, height: h * (ROW_HEIGHT + GAP) - GAP };
          return (
            <div key={index} style={{ position: 'absolute', ...place }}>
              {panel.type === 'row' ? (
                <RowTitle panel={panel} theme={theme} />
              ) : (
                <PanelBox panel={panel} request={request} marks={marks} width={place.width} height={place.height} />
              )}
            </div>
          );
        })}
      </div>
    </div>
  );
}

/** Panels at their places. The panels of an opened row come below it, and later panels move down. */
function laidOut(request: Request): FilePanel[] {
  const placed: FilePanel[] = [];
  let moved = 0;
  const put = (panel: FilePanel, by: number) => placed.push({ ...panel, gridPos: { ...panel.gridPos, y: panel.gridPos.y + by } });
  for (const panel of request.dashboard.panels) {
    const hidden = request.expand ? (panel.panels ?? []) : [];
    put({ ...panel, collapsed: panel.collapsed && !request.expand }, moved);
    if (hidden.length) {
      const top = Math.min(...hidden.map((one) => one.gridPos.y));
      const bottom = Math.max(...hidden.map((one) => one.gridPos.y + one.gridPos.h));
      hidden.forEach((one) => put(one, moved + panel.gridPos.y + 1 - top));
      moved += bottom - top;
    }
  }
  return placed;
}

function RowTitle({ panel, theme }: { panel: FilePanel; theme: GrafanaTheme2 }) {
  return (
    <div style={{ ...theme.typography.h5, display: 'flex', alignItems: 'center', gap: 8, height: '100%', margin: 0 }}>
      <Icon name={panel.collapsed ? 'angle-right' : 'angle-down'} />
      {panel.title}
      {panel.collapsed && <span style={{ color: theme.colors.text.secondary, fontWeight: 400 }}>({panel.panels?.length} panels)</span>}
    </div>
  );
}

/** The line above the panels: variables and marks to the left, the time range to the right. */
function Controls({ request, theme }: { request: Request; theme: GrafanaTheme2 }) {
  const label = { ...theme.typography.bodySmall, padding: '0 8px', lineHeight: '30px', border: `1px solid ${theme.colors.border.weak}` };
  const clock = (at: number) =>
    new Intl.DateTimeFormat('sv', { dateStyle: 'short', timeStyle: 'medium', timeZone: request.timeZone }).format(at);
  return (
    <div style={{ display: 'flex', flexWrap: 'wrap', gap: 8, marginBottom: GAP, color: theme.colors.text.primary }}>
      {(request.dashboard.templating?.list ?? []).map((variable) => (
        <div key={variable.name} style={{ display: 'flex' }}>
          <span style={{ ...label, fontWeight: 500, background: theme.colors.background.secondary }}>{variable.label}</span>
          <span style={{ ...label, background: theme.components.input.background, minWidth: 56 }}>{variable.allValue ? 'All' : 'Prometheus'}</span>
        </div>
      ))}
      {request.dashboard.annotations.list
        .filter((one) => !one.builtIn)
        .map((one) => (
          <span key={one.name} style={{ ...label, display: 'flex', alignItems: 'center', gap: 6, opacity: one.enable ? 1 : 0.5 }}>
            <i style={{ width: 10, height: 10, borderRadius: 5, background: theme.visualization.getColorByName(one.iconColor) }} />
            {one.name}
          </span>
        ))}
      <span style={{ ...label, marginLeft: 'auto' }}>
        {clock(request.from)} to {clock(request.to)}
      </span>
    </div>
  );
}

main().catch((failure) => {
  document.title = 'failed';
  document.body.textContent = String(failure);
});
