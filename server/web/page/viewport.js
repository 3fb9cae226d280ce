// Which frames of a memslot the map shows, and how many make a cell. Frames run
// in rows from left to right.

import {framesPerCellFor} from './cells.js';

export class Viewport {
  constructor(slot, columns, rows) {
    this.baseGfn = Number(slot.baseGfn);
    this.frameCount = Number(slot.frameCount);
    this.columns = columns;
    this.rows = rows;
    this.home();
  }

  get endGfn() {
    return this.baseGfn + this.frameCount;
  }
  get maxFramesPerCell() {
    return framesPerCellFor(
        this.endGfn - align(this.baseGfn, this.framesPerCell || 1),
        this.columns * this.rows);
  }
  // Cells from the first one to the end of the memslot or of the map.
  get cellCount() {
    return Math.min(
        this.columns * this.rows,
        Math.ceil((this.endGfn - this.firstGfn) / this.framesPerCell));
  }
  get isHome() {
    return this.framesPerCell === this.maxFramesPerCell;
  }

  // The whole memslot.
  home() {
    this.framesPerCell = this.maxFramesPerCell;
    // An unaligned memslot may need one cell more than its size says.
    this.framesPerCell = this.maxFramesPerCell;
    this.firstGfn = align(this.baseGfn, this.framesPerCell);
  }

  // Keeps the frame at the same place of the map.
  zoomAt(gfn, framesPerCell) {
    const cell = Math.floor((gfn - this.firstGfn) / this.framesPerCell);
    this.framesPerCell =
        Math.min(Math.max(1, framesPerCell), this.maxFramesPerCell);
    this.moveTo(align(gfn, this.framesPerCell) - cell * this.framesPerCell);
  }

  moveTo(firstGfn) {
    const shown = this.columns * this.rows * this.framesPerCell;
    const lowest = align(this.baseGfn, this.framesPerCell);
    const rowFrames = this.columns * this.framesPerCell;
    // The last row may be partly empty, but the map never leaves the memslot.
    const highest = Math.max(
        lowest,
        lowest + Math.ceil((this.endGfn - lowest - shown) / rowFrames) *
                rowFrames);
    this.firstGfn = align(
        Math.min(Math.max(firstGfn, lowest), highest), this.framesPerCell);
  }

  // Scrolls as little as makes the frame visible.
  reveal(gfn) {
    const rowFrames = this.columns * this.framesPerCell;
    if (gfn < this.firstGfn) {
      const rows = Math.ceil((this.firstGfn - gfn) / rowFrames);
      this.moveTo(this.firstGfn - rows * rowFrames);
    }
    const end = this.firstGfn + this.rows * rowFrames;
    if (gfn >= end) {
      const rows = Math.floor((gfn - end) / rowFrames) + 1;
      this.moveTo(this.firstGfn + rows * rowFrames);
    }
  }

  resize(columns, rows) {
    const wasHome = this.isHome;
    this.columns = columns;
    this.rows = rows;
    if (wasHome) {
      this.home();
    } else {
      this.moveTo(this.firstGfn);
    }
  }
}

function align(gfn, framesPerCell) {
  return Math.floor(gfn / framesPerCell) * framesPerCell;
}
