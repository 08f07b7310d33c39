// One panel in its frame: sends its queries, waits and draws. Its element has the state for look.ts.

import { Component, ReactNode, useEffect, useState } from 'react';
import { DataFrame } from '@grafana/data';
import { PanelChrome, useTheme2 } from '@grafana/ui';
import { drawings } from './drawings';
import { withSettings } from './fields';
import { Mark, ask } from './prometheus';
import { FilePanel, Request } from './request';
import { transformed } from './transformations';

export interface Drawing {
  panel: FilePanel;
  frames: DataFrame[];
  marks: Mark[];
  request: Request;
  width: number;
  height: number;
}

interface Props {
  panel: FilePanel;
  request: Request;
  marks: Mark[];
  width: number;
  height: number;
}

/** The attribute `data-state` is asking, drawn, empty or failed. */
export function PanelBox(props: Props) {
  const { panel, request, width, height } = props;
  const [answer, setAnswer] = useState<DataFrame[] | Error>();
  useEffect(() => {
    const value = (refId: string) => (panel.targets.length > 1 ? `Value #${refId}` : 'Value');
    Promise.all(panel.targets.map((target) => ask(target, request, width, value(target.refId))))
      .then((frames) => transformed(frames.flat(), panel))
      .then(setAnswer, setAnswer);
  }, [panel, request, width]);
  const isEmpty = Array.isArray(answer) && !answer.some((frame) => frame.length);
  const state = answer === undefined ? 'asking' : answer instanceof Error ? 'failed' : isEmpty ? 'empty' : 'drawn';
  return (
    <section data-panel={panel.title} data-state={state} data-failure={answer instanceof Error ? answer.message : undefined}>
      <PanelChrome title={panel.title} description={panel.description} width={width} height={height} padding={panel.type === 'stat' ? 'none' : 'md'}>
        {(innerWidth, innerHeight) => (
          <Fence>
            {Array.isArray(answer) && <Drawn {...props} frames={answer} isEmpty={isEmpty} width={innerWidth} height={innerHeight} />}
            {answer instanceof Error && answer.message}
          </Fence>
        )}
      </PanelChrome>
    </section>
  );
}

function Drawn({ isEmpty, ...drawing }: Drawing & { isEmpty: boolean }) {
  const theme = useTheme2();
  const Draw = drawings[drawing.panel.type];
  if (!Draw) {
    throw new Error(`panels of type ${drawing.panel.type} cannot be drawn`);
  }
  if (isEmpty && drawing.panel.type !== 'stat') {
    const style = { height: drawing.height, display: 'grid', placeItems: 'center', color: theme.colors.text.secondary };
    return <div style={style}>{drawing.panel.fieldConfig?.defaults.noValue ?? 'No data'}</div>;
  }
  return <Draw {...drawing} frames={withSettings(drawing.frames, drawing.panel, drawing.request, theme)} />;
}

/** If a panel throws, its name is shown and the other panels are drawn. */
class Fence extends Component<{ children: ReactNode }, { failure?: Error }> {
  state: { failure?: Error } = {};

  static getDerivedStateFromError(failure: Error) {
    return { failure };
  }

  render() {
    return this.state.failure ? <div data-failure={this.state.failure.message}>{this.state.failure.message}</div> : this.props.children;
  }
}
