// A panel's settings for its fields (units, colours, thresholds, overrides) put into the frames by Grafana's own code.
//
// Grafana's panels, which are not published, register the settings that this code knows. So this file registers every
// setting that the dashboard uses. A name that is neither standard nor `custom.` is an error.

import { DataFrame, FieldConfigOptionsRegistry, FieldConfigPropertyItem, GrafanaTheme2, applyFieldOverrides, cacheFieldDisplayNames, getValueFormats } from '@grafana/data';
import { ThresholdsConfig } from '@grafana/schema';
import { FilePanel, Request } from './request';

const STANDARD = new Set(['unit', 'min', 'max', 'decimals', 'displayName', 'noValue', 'color', 'thresholds', 'mappings', 'links', 'description']);

export function withSettings(frames: DataFrame[], panel: FilePanel, request: Request, theme: GrafanaTheme2): DataFrame[] {
  knowUnits(panel);
  const done = applyFieldOverrides({
    data: frames,
    fieldConfig: panel.fieldConfig as never,
    fieldConfigRegistry: registry(panel),
    replaceVariables: (text) => text,
    theme,
    timeZone: request.timeZone,
  });
  // Tables read the names of columns only from this cache.
  cacheFieldDisplayNames(done);
  return done;
}

const UNITS = new Set(getValueFormats().flatMap((category) => category.submenu.map((unit) => unit.value)));

/** Throws on an unknown unit, because Grafana would write it after the number. */
function knowUnits(panel: FilePanel): void {
  const { defaults, overrides } = panel.fieldConfig!;
  const overridden = overrides.flatMap((one) => one.properties).filter((one) => one.id === 'unit');
  for (const unit of [defaults.unit, ...overridden.map((one) => one.value as string)]) {
    if (unit && !UNITS.has(unit)) {
      throw new Error(`there is no unit ${unit}`);
    }
  }
}

function registry(panel: FilePanel): FieldConfigOptionsRegistry {
  const { defaults, overrides } = panel.fieldConfig!;
  const used = [
    ...Object.keys(defaults).filter((id) => id !== 'custom'),
    ...Object.keys(defaults.custom ?? {}).map((id) => `custom.${id}`),
    ...overrides.flatMap((override) => override.properties.map((property) => property.id)),
  ];
  return new FieldConfigOptionsRegistry(() => [...new Set(used)].map(item));
}

function item(id: string): FieldConfigPropertyItem {
  const isCustom = id.startsWith('custom.');
  if (!isCustom && !STANDARD.has(id)) {
    throw new Error(`there is no setting ${id}`);
  }
  return {
    id,
    path: isCustom ? id.slice('custom.'.length) : id,
    name: id,
    isCustom,
    editor: () => null,
    override: () => null,
    process: (value) => value,
    shouldApply: () => true,
  } as FieldConfigPropertyItem;
}

/** JSON has no -Infinity, so the file has null as the first step of thresholds. */
export function restoreThresholds(panels: FilePanel[]): void {
  for (const { fieldConfig } of panels.flatMap((one) => [one, ...(one.panels ?? [])])) {
    const overridden = (fieldConfig?.overrides ?? []).flatMap((one) => one.properties).filter((one) => one.id === 'thresholds');
    const all = [fieldConfig?.defaults.thresholds, ...overridden.map((one) => one.value as ThresholdsConfig)];
    for (const step of all.flatMap((thresholds) => thresholds?.steps ?? [])) {
      step.value ??= -Infinity;
    }
  }
}
