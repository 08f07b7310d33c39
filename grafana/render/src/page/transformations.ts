// The transformations of panels, done by Grafana's own code.

import { DataFrame, DataTransformerConfig, TransformerRegistryItem, standardTransformers, standardTransformersRegistry, transformDataFrame } from '@grafana/data';
import { lastValueFrom } from 'rxjs';
import { FilePanel } from './request';

/** Must run once, before the first transformation. */
export function registerTransformations(): void {
  // Some transformations have two names.
  const byId = new Map(Object.values(standardTransformers).map((info) => [info.id, info]));
  const item = (info: { id: string; name: string }) => ({ id: info.id, name: info.name, transformation: () => Promise.resolve(info) });
  standardTransformersRegistry.setInit(() => [...byId.values()].map((info) => item(info) as unknown as TransformerRegistryItem));
}

export function transformed(frames: DataFrame[], panel: FilePanel): Promise<DataFrame[]> {
  const named = panel.transformations ?? [];
  const unknown = named.find((one) => !standardTransformersRegistry.getIfExists(one.id));
  if (unknown) {
    throw new Error(`there is no transformation ${unknown.id}`);
  }
  return lastValueFrom(transformDataFrame(named as DataTransformerConfig[], frames, { interpolate: (text) => text }));
}
