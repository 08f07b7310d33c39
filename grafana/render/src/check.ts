// Writes the dashboard as TypeScript, so that `tsc` checks it against Grafana's own types: unknown keys and values are errors.
//
// In the type of a dashboard, the options of panels may be anything. So the options, the settings of fields and the
// overrides are checked separately, with the types of their kind of panel.

import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';

const HERE = path.resolve(import.meta.dirname, '..');
const KINDS: Record<string, { from: string; options: string; custom: string }> = {
  stat: { from: 'stat/panelcfg/x/StatPanelCfg', options: 'Options', custom: '' },
  timeseries: { from: 'timeseries/panelcfg/x/TimeSeriesPanelCfg', options: 'Options', custom: 'FieldConfig' },
  table: { from: 'table/panelcfg/x/TablePanelCfg', options: 'Options', custom: 'FieldConfig' },
  heatmap: { from: 'heatmap/panelcfg/x/HeatmapPanelCfg', options: 'Options', custom: 'FieldConfig' },
  'state-timeline': { from: 'statetimeline/panelcfg/x/StateTimelinePanelCfg', options: 'Options', custom: 'FieldConfig' },
};

interface Panel {
  type: string;
  title: string;
  options: object;
  fieldConfig: { defaults: { custom?: object }; overrides: Array<{ properties: Array<{ id: string; value: unknown }> }> };
  panels?: Panel[];
}

const dashboard = JSON.parse(await readFile(path.join(HERE, '../dashboards/lb.json'), 'utf8'));
const panels: Panel[] = dashboard.panels.flatMap((panel: Panel) => [panel, ...(panel.panels ?? [])]).filter((panel: Panel) => panel.type !== 'row');
const name = (type: string) => type.replace(/\W/g, '_');

const lines = [
  `import { Dashboard, FieldConfig } from '@grafana/schema';`,
  ...Object.entries(KINDS).map(([type, { from }]) => `import * as ${name(type)} from '@grafana/schema/dist/esm/raw/composable/${from}_types.gen';`),
  // The file has enumerations as words. In overrides, null removes an optional setting.
  `type Written<T> = T extends string ? \`\${T}\` : T extends Array<infer U> ? Array<Written<U>> : T extends object ? { [K in keyof T]: Written<T[K]> } : T;`,
  `type Changes<T> = { [K in keyof T]?: T[K] | null };`,
];
const typed = (what: string, value: unknown, type: string) => lines.push('', `// ${what}`, `(${JSON.stringify(value)}) satisfies ${type};`);
typed('the dashboard', { ...dashboard, annotations: { list: dashboard.annotations.list.map(withoutQuery) } }, 'Written<Dashboard>');
for (const panel of panels) {
  const kind = KINDS[panel.type];
  if (!kind) {
    throw new Error(`${panel.title}: no types are known for panels of type ${panel.type}`);
  }
  typed(panel.title, panel.options, `Written<Partial<${name(panel.type)}.${kind.options}>>`);
  const { custom, ...standard } = panel.fieldConfig.defaults;
  typed(panel.title, standard, 'Written<FieldConfig>');
  const customType = kind.custom ? `${name(panel.type)}.${kind.custom}` : 'Record<string, never>';
  typed(panel.title, custom ?? {}, `Written<Partial<${customType}>>`);
  for (const { properties } of panel.fieldConfig.overrides) {
    const chosen = (isCustom: boolean) =>
      Object.fromEntries(
        properties.filter(({ id }) => id.startsWith('custom.') === isCustom).map(({ id, value }) => [id.replace('custom.', ''), value])
      );
    typed(panel.title, chosen(false), 'Changes<Written<FieldConfig>>');
    typed(panel.title, chosen(true), `Changes<Written<${customType}>>`);
  }
}
await mkdir(path.join(HERE, 'build'), { recursive: true });
await writeFile(path.join(HERE, 'build/lb.check.ts'), lines.join('\n') + '\n');

/** The query of an annotation belongs to the data source, so the types do not have it. */
function withoutQuery(annotation: Record<string, unknown>) {
  const { expr, step, tagKeys, titleFormat, textFormat, useValueForTime, ...rest } = annotation;
  return rest;
}
