// What the daemon says about groups of frames: 8 bytes a cell, each the share
// of the cell's frames that have the property, 0 only if none, 255 only if all.

import {formatFrames} from './format.js';

export const BYTES_PER_CELL = 8;
export const ALL = 255;
export const MAPPED_4K = 0;
export const MAPPED_2M = 1;
export const MAPPED_1G = 2;
export const DIRTY = 3;
export const YOUNG = 4;
export const PROTECTED = 5;
export const WAITING = 6;
export const BACKED = 7;

// The layers of the map, by which byte of a cell they are.
export const LAYERS = [
  {byte: MAPPED_4K, key: '4k', name: '4K'},
  {byte: MAPPED_2M, key: '2m', name: '2M'},
  {byte: MAPPED_1G, key: '1g', name: '1G'},
  {byte: YOUNG, key: 'young', name: 'young'},
  {byte: DIRTY, key: 'dirty', name: 'dirty'},
  {byte: PROTECTED, key: 'protected', name: 'protected'},
  {byte: WAITING, key: 'waiting', name: 'waiting'},
];

// The cells of a view: `count` groups of `framesPerCell` frames from
// `firstGfn`.
export class Cells {
  constructor(firstGfn, framesPerCell, count) {
    this.firstGfn = firstGfn;
    this.framesPerCell = framesPerCell;
    this.count = count;
    this.bytes = new Uint8Array(count * BYTES_PER_CELL);
    this.known = new Uint8Array(count);
    this.partial = new Uint8Array(count);  // more frames may have a property
  }

  get endGfn() {
    return this.firstGfn + this.count * this.framesPerCell;
  }

  covers(other) {
    return this.firstGfn === other.firstGfn && this.count === other.count &&
        this.framesPerCell === other.framesPerCell;
  }

  gfnOf(cell) {
    return this.firstGfn + cell * this.framesPerCell;
  }
  // Negative or too large for a frame outside.
  cellOf(gfn) {
    return Math.floor((gfn - this.firstGfn) / this.framesPerCell);
  }
  share(cell, byte) {
    return this.bytes[cell * BYTES_PER_CELL + byte];
  }
  // Frames of the cells with the property: about how many, at least how many,
  // whether all is known, and whether it is rounded. A share is rounded down,
  // but to 1 at least; up to 255 frames there is one count for each.
  total(byte) {
    const total = {about: 0, least: 0, whole: true, rounded: false};
    for (let cell = 0; cell < this.count; ++cell) {
      if (!this.known[cell] || this.partial[cell]) total.whole = false;
      if (!this.known[cell]) continue;
      const share = this.share(cell, byte);
      const frames = share * this.framesPerCell / ALL;
      const rounded =
          share > 0 && share < ALL && this.framesPerCell > ALL;
      const least = rounded && share === 1 ? 1 : Math.ceil(frames);
      total.least += least;
      total.about += rounded ? frames : least;
      if (rounded) total.rounded = true;
    }
    return total;
  }

  // Takes an answer of /api/heatmap for cells of this view; returns the first
  // cell that it does not tell of. If its first cell was too much for it, it
  // tells of a part of that one.
  take(answer) {
    const bytes = decodeBase64(answer.cells);
    const first = this.cellOf(Number(answer.firstGfn));
    const whole =
        Math.min(this.cellOf(Number(answer.nextGfn)), first + answer.cellCount);
    const reached = Math.max(whole, first + 1);
    const used = (reached - first) * BYTES_PER_CELL;
    this.bytes.set(bytes.subarray(0, used), first * BYTES_PER_CELL);
    this.known.fill(1, first, reached);
    this.partial.fill(0, first, reached);
    if (whole === first) this.partial[first] = 1;
    return reached;
  }

  // What another view knows, as far as it goes: something to show until the
  // daemon has answered. Nothing taken this way counts as known.
  resample(other) {
    for (let cell = 0; cell < this.count; ++cell) {
      const gfn = this.gfnOf(cell);
      const from = other.cellOf(gfn);
      const to = Math.max(from + 1, other.cellOf(gfn + this.framesPerCell));
      if (from < 0 || to > other.count) continue;
      const step = Math.max(1, Math.floor((to - from) / 8));
      for (let byte = 0; byte < BYTES_PER_CELL; ++byte) {
        let sum = 0;
        let count = 0;
        for (let i = from; i < to; i += step, ++count) {
          sum += other.share(i, byte);
        }
        this.bytes[cell * BYTES_PER_CELL + byte] = Math.ceil(sum / count);
      }
    }
  }
}

// Frames of some views with a property, as text: '≥' if not all is known, '≈'
// if it is rounded.
export function formatTotal(views, byte) {
  const totals = views.map((cells) => cells.total(byte));
  const sum = (key) => totals.reduce((all, total) => all + total[key], 0);
  if (!totals.every(({whole}) => whole)) {
    return `≥ ${formatFrames(sum('least'))}`;
  }
  const about = totals.some(({rounded}) => rounded) ? '≈ ' : '';
  return about + formatFrames(sum('about'));
}

function decodeBase64(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; ++i) bytes[i] = binary.charCodeAt(i);
  return bytes;
}
