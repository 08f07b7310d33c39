// The request to draw, as draw.ts serves it at /request.json. Times are in milliseconds of the Unix epoch.

import { Dashboard, DataQuery, Panel } from '@grafana/schema';

export interface Request {
  dashboard: DashboardFile;
  from: number;
  to: number;
  /** Scrape interval, which in Grafana is a setting of the data source. */
  scrapeSeconds: number;
  theme: 'dark' | 'light';
  /** Draw collapsed rows as open. */
  expand: boolean;
  /** IANA name of the time zone of axes. */
  timeZone: string;
}

export type DashboardFile = Omit<Dashboard, 'panels' | 'annotations'> & { panels: FilePanel[]; annotations: { list: Annotation[] } };

/** A panel, or a row with the panels that it hides while it is collapsed. */
export type FilePanel = Omit<Panel, 'title' | 'gridPos' | 'targets'> & {
  title: string;
  gridPos: { x: number; y: number; w: number; h: number };
  targets: Target[];
  collapsed?: boolean;
  panels?: FilePanel[];
};

export interface Target extends DataQuery {
  expr: string;
  instant: boolean;
  legendFormat: string;
  format?: 'table' | 'heatmap';
}

export interface Annotation {
  name: string;
  enable: boolean;
  builtIn?: number;
  iconColor: string;
  expr: string;
  titleFormat?: string;
  useValueForTime?: 'on';
}
