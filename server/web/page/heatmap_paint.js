// Draws the cells of a map onto a canvas. What a cell shows differs by place
// and shape, not by hue alone: the mapping is a bar from the left, as long as
// its share, darker or lighter by page size; young is a mark at the top left,
// dirty one at the bottom right, both the stronger the larger their share;
// protected is a line on the right, waiting a frame around the cell with a cross
// in it.

import * as cells from './cells.js';

const LABEL_ROWS = 8;
const MIN_GUTTER = 60;  // for the labels, in CSS pixels

export function readColours(node) {
  const style = getComputedStyle(node);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const names = [
    'cell-none', 'cell-4k', 'cell-2m', 'cell-1g', 'cell-young', 'cell-dirty',
    'cell-protected', 'cell-waiting', 'cell-unknown', 'text-dim', 'focus',
    'surface',
  ];
  return Object.fromEntries(names.map((name) => [name, colour(name)]));
}

// Where cells lie, in pixels of the device.
export function layOut(canvas, columns, rows, rowHeight) {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * ratio);
  const cellWidth =
      Math.max(2, Math.floor((width - MIN_GUTTER * ratio) / columns));
  const cellHeight = Math.round(rowHeight * ratio);
  return {
    ratio,
    columns,
    width,
    height: cellHeight * rows,
    cellWidth,
    cellHeight,
    left: width - cellWidth * columns,
  };
}

export function cellAt(layout, x, y) {
  const column =
      Math.floor((x * layout.ratio - layout.left) / layout.cellWidth);
  const row = Math.floor(y * layout.ratio / layout.cellHeight);
  if (column < 0 || column >= layout.columns || row < 0) return -1;
  return row * layout.columns + column;
}

export class Painter {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext('2d', {alpha: false});
  }

  // `view`: Cells; `hidden`: the bytes whose layers are off; `cursor`: the cell
  // with the keyboard cursor, or -1.
  paint(view, layout, colours, hidden, cursor, labelOf) {
    const {canvas, context} = this;
    if (canvas.width !== layout.width || canvas.height !== layout.height) {
      canvas.width = layout.width;
      canvas.height = layout.height;
    }
    context.fillStyle = colours.surface;
    context.fillRect(0, 0, layout.width, layout.height);
    for (let cell = 0; cell < view.count; ++cell) {
      this.#cell(view, cell, layout, colours, hidden);
    }
    this.#waiting(view, layout, colours, hidden);
    this.#labels(view, layout, colours, labelOf);
    if (cursor >= 0) this.#cursor(cursor, layout, colours);
  }

  #origin(cell, layout) {
    return [
      layout.left + cell % layout.columns * layout.cellWidth,
      Math.floor(cell / layout.columns) * layout.cellHeight,
    ];
  }

  #cell(view, cell, layout, colours, hidden) {
    const {context} = this;
    const share = (byte) => hidden.has(byte) ? 0 : view.share(cell, byte);
    const [x, y] = this.#origin(cell, layout);
    const width = layout.cellWidth - 1;
    const height = layout.cellHeight - 1;
    const fill = (colour, left, top, right, bottom) => {
      context.fillStyle = colour;
      context.fillRect(x + left, y + top, right - left, bottom - top);
    };
    if (view.share(cell, cells.BACKED) === 0) {
      if (!view.known[cell]) fill(colours['cell-unknown'], 0, 0, width, height);
      return;
    }
    fill(colours['cell-none'], 0, 0, width, height);
    let from = 0;
    for (const [byte, colour] of [[cells.MAPPED_1G, 'cell-1g'],
                                  [cells.MAPPED_2M, 'cell-2m'],
                                  [cells.MAPPED_4K, 'cell-4k']]) {
      if (share(byte) === 0) continue;
      const to = Math.min(width, from + part(share(byte), width));
      fill(colours[colour], from, 0, to, height);
      from = to;
    }
    const markWidth = Math.max(1, Math.round(width * 0.4));
    const markHeight = Math.max(1, Math.round(height / 3));
    if (share(cells.YOUNG) > 0) {
      context.globalAlpha = strength(share(cells.YOUNG));
      fill(colours['cell-young'], 0, 0, markWidth, markHeight);
    }
    if (share(cells.DIRTY) > 0) {
      context.globalAlpha = strength(share(cells.DIRTY));
      fill(colours['cell-dirty'], width - markWidth, height - markHeight, width,
           height);
    }
    context.globalAlpha = 1;
    if (share(cells.PROTECTED) > 0) {
      const high = part(share(cells.PROTECTED), height);
      const wide = Math.max(1, Math.round(width / 4));
      fill(colours['cell-protected'], width - wide, height - high, width,
           height);
    }
  }

  // Last, for it reaches over the neighbours: a waiting vCPU must not be
  // missed.
  #waiting(view, layout, colours, hidden) {
    if (hidden.has(cells.WAITING)) return;
    const {context} = this;
    const line = 2 * layout.ratio;
    context.lineWidth = line;
    context.strokeStyle = colours['cell-waiting'];
    for (let cell = 0; cell < view.count; ++cell) {
      if (view.share(cell, cells.WAITING) === 0) continue;
      const [x, y] = this.#origin(cell, layout);
      const right = x + layout.cellWidth;
      const bottom = y + layout.cellHeight;
      context.strokeRect(
          x - line, y - line, layout.cellWidth + 2 * line - 1,
          layout.cellHeight + 2 * line - 1);
      context.beginPath();
      context.moveTo(x, y);
      context.lineTo(right - 1, bottom - 1);
      context.moveTo(right - 1, y);
      context.lineTo(x, bottom - 1);
      context.stroke();
    }
  }

  #labels(view, layout, colours, labelOf) {
    const {context} = this;
    context.fillStyle = colours['text-dim'];
    context.font = `${10.5 * layout.ratio}px ui-monospace, ` +
        '"DejaVu Sans Mono", Menlo, Consolas, monospace';
    context.textBaseline = 'top';
    context.textAlign = 'right';
    const rows = Math.ceil(view.count / layout.columns);
    for (let row = 0; row < rows; row += LABEL_ROWS) {
      context.fillText(
          labelOf(view.gfnOf(row * layout.columns)),
          layout.left - 6 * layout.ratio, row * layout.cellHeight);
    }
  }

  #cursor(cell, layout, colours) {
    const {context} = this;
    const [x, y] = this.#origin(cell, layout);
    const line = 2 * layout.ratio;
    context.lineWidth = line;
    context.strokeStyle = colours.focus;
    context.strokeRect(
        x - line, y - line, layout.cellWidth + 2 * line - 1,
        layout.cellHeight + 2 * line - 1);
  }
}

// At least a pixel for anything, all of them only for all.
function part(share, length) {
  if (share === cells.ALL) return length;
  return Math.min(
      Math.max(1, Math.round(share / cells.ALL * length)),
      Math.max(1, length - 1));
}

function strength(share) {
  return 0.4 + 0.6 * share / cells.ALL;
}
