// Which frames of a memslot the map shows, and how many make a cell. Frames run
// in rows from left to right.

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
  get rowFrames() {
    return this.columns * this.framesPerCell;
  }
  // So that the rows that hold the memslot are not more than there are.
  get maxFramesPerCell() {
    let frames = 1;
    while (align(this.endGfn - 1, frames * this.columns) -
               align(this.baseGfn, frames * this.columns) >=
           frames * this.columns * this.rows) {
      frames *= 2;
    }
    return frames;
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
    this.moveTo(this.baseGfn);
  }

  // Keeps the frame in the same row of the map.
  zoomAt(gfn, framesPerCell) {
    const row = Math.floor((gfn - this.firstGfn) / this.rowFrames);
    this.framesPerCell =
        Math.min(Math.max(1, framesPerCell), this.maxFramesPerCell);
    this.moveTo(align(gfn, this.rowFrames) - row * this.rowFrames);
  }

  // Rows begin at multiples of their size, so that tables begin with rows.
  moveTo(firstGfn) {
    const lowest = align(this.baseGfn, this.rowFrames);
    const highest =
        align(this.endGfn - 1, this.rowFrames) -
        (this.rows - 1) * this.rowFrames;
    this.firstGfn = Math.max(
        lowest, Math.min(align(firstGfn, this.rowFrames), highest));
  }

  // Scrolls as little as makes the frame visible.
  reveal(gfn) {
    const row = align(gfn, this.rowFrames);
    const last = row - (this.rows - 1) * this.rowFrames;
    if (row < this.firstGfn) this.moveTo(row);
    if (last > this.firstGfn) this.moveTo(last);
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

function align(gfn, frames) {
  return Math.floor(gfn / frames) * frames;
}
