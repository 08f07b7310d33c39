// Makes a PNG smaller without a visible change: it keeps 256 of the few thousand colours of a dashboard.

import UPNG from 'upng-js';

const COLOURS = 256;

export function compact(png: Uint8Array): Buffer {
  const image = UPNG.decode(png.buffer.slice(png.byteOffset, png.byteOffset + png.byteLength) as ArrayBuffer);
  return Buffer.from(UPNG.encode(UPNG.toRGBA8(image), image.width, image.height, COLOURS));
}
