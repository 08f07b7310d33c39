// Checks a picture for faults that a program can find: failures, empty panels, text that is cut or collides.

interface CanvasText {
  text: string;
  left: number;
  top: number;
  right: number;
  bottom: number;
}

const written = new Map<HTMLCanvasElement, CanvasText[]>();

// For draw.ts.
Object.assign(window, { look: { isDone, findings } });

/** Records the places of texts on canvases. Must run before the first text is drawn. */
export function watchCanvasText(): void {
  const context = CanvasRenderingContext2D.prototype;
  const { fillText, clearRect } = context;
  context.clearRect = function (...box) {
    written.delete(this.canvas);
    clearRect.apply(this, box);
  };
  context.fillText = function (text, x, y, ...rest) {
    const size = this.measureText(text);
    const at = this.getTransform();
    const corner = (dx: number, dy: number) => new DOMPoint(x + dx, y + dy).matrixTransform(at);
    const corners = [corner(-size.actualBoundingBoxLeft, -size.actualBoundingBoxAscent), corner(size.actualBoundingBoxRight, size.actualBoundingBoxDescent)];
    const [xs, ys] = [corners.map((one) => one.x), corners.map((one) => one.y)];
    const box = { text, left: Math.min(...xs), right: Math.max(...xs), top: Math.min(...ys), bottom: Math.max(...ys) };
    written.set(this.canvas, [...(written.get(this.canvas) ?? []), box]);
    fillText.call(this, text, x, y, ...rest);
  };
}

/** Whether all panels are drawn. */
export function isDone(): boolean {
  const panels = [...document.querySelectorAll<HTMLElement>('[data-panel]')];
  return document.title === 'failed' || (panels.length > 0 && panels.every((panel) => panel.dataset.state !== 'asking'));
}

/** The findings, one line each. Panels with a title in `mayBeEmpty` may be empty. */
export function findings(mayBeEmpty: string[]): string[] {
  if (document.title === 'failed') {
    return [document.body.textContent ?? ''];
  }
  return [...document.querySelectorAll<HTMLElement>('[data-panel]')].flatMap((panel) => {
    const title = panel.dataset.panel!;
    const found = [...cutText(panel), ...[...panel.querySelectorAll('canvas')].flatMap(canvasText)];
    for (const failed of [panel, ...panel.querySelectorAll<HTMLElement>('[data-failure]')]) {
      if (failed.dataset.failure) {
        found.push(`failed: ${failed.dataset.failure}`);
      }
    }
    const says = panel.textContent ?? '';
    if (!mayBeEmpty.includes(title) && (panel.dataset.state === 'empty' || says.includes('No data'))) {
      found.push('has no data');
    }
    for (const wrong of ['NaN', 'undefined', 'Infinity', '[object', 'Value #']) {
      if (says.includes(wrong)) {
        found.push(`says ${wrong}`);
      }
    }
    return found.map((what) => `${title}: ${what}`);
  });
}

function cutText(panel: HTMLElement): string[] {
  const found: string[] = [];
  for (const element of panel.querySelectorAll<HTMLElement>('*')) {
    const ownText = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent!.trim());
    const style = getComputedStyle(element);
    const cuts = style.overflowX !== 'visible' && style.visibility !== 'hidden' && style.clip === 'auto';
    if (/auto|scroll/.test(style.overflowY) && element.clientHeight > 1 && element.scrollHeight > element.clientHeight + 1) {
      found.push(`"${element.textContent}" does not fit and scrolls`);
    }
    if (ownText && cuts && element.clientWidth > 1 && element.scrollWidth > element.clientWidth + 1) {
      found.push(`"${element.textContent}" is cut`);
    }
  }
  return found;
}

function canvasText(canvas: HTMLCanvasElement): string[] {
  const texts = written.get(canvas) ?? [];
  const found = texts
    .filter((one) => one.left < -1 || one.top < -1 || one.right > canvas.width + 1 || one.bottom > canvas.height + 1)
    .map((one) => `"${one.text}" is outside of the plot`);
  texts.forEach((one, index) => {
    for (const other of texts.slice(index + 1)) {
      if (one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom) {
        found.push(`"${one.text}" and "${other.text}" collide`);
      }
    }
  });
  return found;
}
