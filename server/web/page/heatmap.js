// The map of guest memory: one memslot at a time, from all of it down to single
// frames.

import * as api from './api.js';
import {BACKED, Cells, formatTotal, LAYERS, WAITING} from './cells.js';
import {card, element, setAttribute, setText} from './dom.js';
import {formatFrames, formatGpa, formatHex, formatPercent} from './format.js';
import {cellAt, layOut, Painter, readColours} from './heatmap_paint.js';
import {bindInput} from './heatmap_input.js';
import {Viewport} from './viewport.js';

const ROWS = 64;
const ROW_HEIGHT = 7;
const WIDE_COLUMNS = 128;
const NARROW_COLUMNS = 64;
const WIDE_PIXELS = 700;
// A live map asks a busy daemon for this many answers at a time.
const REQUESTS_PER_REFRESH = 4;

export class Heatmap {
  // `onPick(gfn)`: somebody wants to see the walk to a frame. `onView()`: other
  // frames are shown.
  constructor(vm, {onPick, onView}) {
    this.vm = vm;
    this.onPick = onPick;
    this.onView = onView;
    this.slots = [];
    this.viewport = null;
    this.shown = null;      // Cells that are drawn
    this.hidden = new Set();
    this.cursorGfn = -1;
    this.nextCell = 0;      // where the sweep over the cells goes on
    this.swept = false;     // it has come to the end
    this.fetching = null;   // the part of it that is under way
    this.movedAt = 0;       // when these frames came into view
    this.settledAt = 0;     // when all of them were drawn; 0: not yet
    this.firstSettledAt = null;
    this.#build();
    this.resizes = new ResizeObserver(() => this.#resized());
    this.resizes.observe(this.canvas);
    this.scheme = matchMedia('(prefers-color-scheme: dark)');
    this.onScheme = () => {
      this.colours = readColours(document.documentElement);
      this.draw();
    };
    this.scheme.addEventListener('change', this.onScheme);
    this.colours = readColours(document.documentElement);
  }

  #build() {
    this.slotPicker = element('select', {
      'aria-label': 'Memslot',
      onchange: () => this.selectSlot(this.slotPicker.value),
    });
    const button = (text, label, action) => element(
        'button', {type: 'button', 'aria-label': label, title: label,
                   onclick: action}, text);
    this.range = element('span', {className: 'mono range'});
    this.scale = element('span', {className: 'dim'});
    this.canvas = element('canvas', {
      className: 'map',
      tabindex: 0,
      role: 'application',
      'aria-roledescription': 'map of guest memory',
      'aria-label': 'Guest memory',
      'aria-describedby': 'map-help map-cell',
    });
    this.position = element('div', {className: 'position'});
    this.tip = element('div', {className: 'tip', hidden: true});
    this.spoken = element(
        'p', {id: 'map-cell', className: 'cell-text', 'aria-live': 'polite'});
    this.legend = element('div', {
      className: 'legend',
      role: 'group',
      'aria-label': 'Layers',
    });
    this.layerValues = new Map();
    for (const layer of LAYERS) this.legend.append(this.#layerButton(layer));
    this.legend.append(
        element('span', {className: 'legend-item'},
                element('i', {className: 'swatch swatch-none'}), 'unmapped'));
    this.element = card(
        'Memory', {
          className: 'map-card',
          tools: [
            this.slotPicker,
            this.range,
            this.scale,
            element('span', {className: 'push buttons'},
                    button('−', 'Zoom out', () => this.zoomBy(2)),
                    button('+', 'Zoom in', () => this.zoomBy(0.5)),
                    button('⌂', 'Whole memslot', () => this.home())),
          ],
        },
        element('div', {className: 'map-frame'}, this.canvas, this.tip),
        element('div', {className: 'position-bar', 'aria-hidden': 'true'},
                this.position),
        this.spoken, this.legend,
        element('p', {id: 'map-help', className: 'note'},
                'Arrows move, + and − zoom, Home shows the whole memslot, ' +
                    'Enter walks to the frame. Wheel zooms, drag scrolls.'));
    this.painter = new Painter(this.canvas);
    this.unbindInput = bindInput(this.canvas, this);
  }

  #layerButton({byte, key, name}) {
    const value = element('span', {className: 'num'});
    this.layerValues.set(byte, value);
    return element(
        'button', {
          type: 'button',
          className: 'legend-item',
          'aria-pressed': 'true',
          dataset: {layer: key},
          onclick: (event) => this.#toggle(byte, event.currentTarget),
        },
        element('i', {className: `swatch swatch-${key}`}), name, value);
  }

  #toggle(byte, button) {
    if (!this.hidden.delete(byte)) this.hidden.add(byte);
    setAttribute(button, 'aria-pressed', !this.hidden.has(byte));
    this.draw();
  }

  setSlots(slots) {
    const before = this.slots;
    this.slots = slots;
    if (slots.length !== before.length ||
        slots.some((slot, i) => !sameFrames(slot, before[i]))) {
      this.slotPicker.replaceChildren(...slots.map(
          (slot) => element(
              'option', {value: slot.name},
              `${shortName(slot)} · ` +
                  formatFrames(Number(slot.frameCount)))));
    }
    const slot = slots.find(({name}) => name === this.slot?.name) ?? slots[0];
    if (!slot) {
      this.slot = null;
      this.viewport = null;
      this.shown = null;
      this.draw();
    } else if (sameFrames(slot, this.slot)) {
      this.slot = slot;
      this.slotPicker.value = slot.name;
    } else {
      this.selectSlot(slot.name);
    }
  }

  selectSlot(name) {
    this.slot = this.slots.find((slot) => slot.name === name) ?? null;
    if (!this.slot) return;
    this.slotPicker.value = name;
    const layout = this.#layout();
    this.viewport = new Viewport(this.slot, layout.columns, ROWS);
    this.shown = null;
    this.cursorGfn = -1;
    this.#moved();
  }

  #layout() {
    const columns =
        this.canvas.clientWidth >= WIDE_PIXELS ? WIDE_COLUMNS : NARROW_COLUMNS;
    return layOut(this.canvas, columns, ROWS, ROW_HEIGHT);
  }

  #resized() {
    if (!this.viewport) return;
    const {columns} = this.#layout();
    if (columns !== this.viewport.columns) {
      this.viewport.resize(columns, ROWS);
      this.#moved();
    } else {
      this.draw();
    }
  }

  home() {
    this.viewport?.home();
    this.#moved();
  }
  // Below 1 is closer. Without a frame: the cursor, or the middle.
  zoomBy(factor, gfn = this.#focusGfn()) {
    if (!this.viewport) return;
    this.viewport.zoomAt(gfn, this.viewport.framesPerCell * factor);
    this.#moved();
  }
  scrollRows(rows) {
    if (!this.viewport || rows === 0) return;
    const {firstGfn, rowFrames} = this.viewport;
    this.viewport.moveTo(firstGfn + rows * rowFrames);
    this.#moved();
  }
  moveCursor(cells) {
    if (!this.viewport) return;
    const {framesPerCell, baseGfn, endGfn} = this.viewport;
    const from = this.cursorGfn < 0 ? this.shown.firstGfn :
                                      this.cursorGfn + cells * framesPerCell;
    this.cursorGfn = Math.min(Math.max(from, baseGfn), endGfn - 1);
    const {firstGfn} = this.viewport;
    this.viewport.reveal(this.cursorGfn);
    if (firstGfn !== this.viewport.firstGfn) {
      this.#moved();
    } else {
      this.draw();
    }
    this.#speak();
  }
  // Shows a frame as closely as can be, and walks to it.
  goTo(gfn) {
    const slot = this.slots.find(
        ({baseGfn, frameCount}) => gfn >= Number(baseGfn) &&
            gfn < Number(baseGfn) + Number(frameCount));
    if (slot && slot !== this.slot) this.selectSlot(slot.name);
    if (slot) {
      const {viewport} = this;
      viewport.framesPerCell = 1;
      viewport.moveTo(gfn - Math.floor(viewport.rows / 2) * viewport.rowFrames);
      this.#moved();
    }
    this.pick(gfn);
  }
  pick(gfn = this.cursorGfn) {
    if (gfn < 0) return;
    this.cursorGfn = gfn;
    this.draw();
    this.#speak();
    this.onPick(gfn);
  }

  gfnAt(x, y) {
    if (!this.shown) return -1;
    const cell = cellAt(this.#layout(), x, y);
    return cell < 0 || cell >= this.shown.count ? -1 : this.shown.gfnOf(cell);
  }

  #focusGfn() {
    const {shown} = this;
    if (!shown) return 0;
    const cell = shown.cellOf(this.cursorGfn);
    if (this.cursorGfn >= 0 && cell >= 0 && cell < shown.count) {
      return this.cursorGfn;
    }
    return shown.gfnOf(Math.floor(shown.count / 2));
  }

  #moved() {
    const {viewport} = this;
    if (!viewport) return;
    const {firstGfn, framesPerCell, cellCount} = viewport;
    const cells = new Cells(firstGfn, framesPerCell, cellCount);
    if (this.shown?.covers(cells)) return this.draw();
    if (this.shown) cells.resample(this.shown);
    this.shown = cells;
    this.movedAt = performance.now();
    this.settledAt = 0;
    this.restart();
    this.draw();
    this.onView();
  }

  // What is shown has changed: ask for it again.
  restart() {
    this.nextCell = 0;
    this.swept = false;
  }
  get needsMore() {
    return this.shown !== null && !this.swept;
  }

  // Asks for the cells in view, or goes on where it stopped. Calls while one is
  // under way wait for it.
  async refresh() {
    while (this.fetching) await this.fetching;
    if (!this.needsMore) return;
    this.fetching = this.#sweep();
    try {
      await this.fetching;
    } finally {
      this.fetching = null;
    }
  }

  async #sweep() {
    const cells = this.shown;
    const first = this.settledAt === 0;
    for (let i = 0; first || i < REQUESTS_PER_REFRESH; ++i) {
      const from = this.nextCell;
      const count = cells.count - from;
      const answer = await api.getHeatmap(
          this.vm, cells.gfnOf(from), count * cells.framesPerCell, count);
      if (cells !== this.shown) return;
      if (from !== this.nextCell) continue;
      this.nextCell = cells.take(answer);
      this.swept = this.nextCell >= cells.count;
      this.draw();
      if (!this.swept) continue;
      this.settledAt ||= performance.now();
      this.firstSettledAt ??= this.settledAt;
      return;
    }
  }

  draw() {
    if (!this.canvas.isConnected) return;
    this.canvas.style.height = `${ROWS * ROW_HEIGHT}px`;
    const layout = this.#layout();
    const shown = this.shown ?? new Cells(0, 1, 0);
    const cell = this.cursorGfn < 0 ? -1 : shown.cellOf(this.cursorGfn);
    this.painter.paint(
        shown, layout, this.colours, this.hidden,
        cell < shown.count ? cell : -1, formatHex);
    this.#texts(shown);
  }

  #texts(shown) {
    if (!this.slot) {
      setText(this.range, 'no memslot');
      setText(this.scale, '');
      return;
    }
    const {baseGfn, endGfn, frameCount} = this.viewport;
    const first = Math.max(shown.firstGfn, baseGfn);
    const end = Math.min(shown.endGfn, endGfn);
    setText(this.range, `${formatHex(first)}–${formatHex(end)}`);
    setText(this.scale, `${formatFrames(end - first)}, ` +
                `${formatFrames(shown.framesPerCell)} a cell`);
    for (const {byte} of LAYERS) {
      setText(this.layerValues.get(byte),
              byte === WAITING ? String(countOf(shown, WAITING)) :
                                 formatTotal([shown], byte));
    }
    this.position.style.left = `${(first - baseGfn) / frameCount * 100}%`;
    this.position.style.width = `${(end - first) / frameCount * 100}%`;
  }

  // What a cell is, in words.
  describe(gfn) {
    const cell = this.shown?.cellOf(gfn) ?? -1;
    if (cell < 0 || cell >= this.shown.count) return '';
    const {framesPerCell} = this.shown;
    const first = this.shown.gfnOf(cell);
    const where = framesPerCell === 1 ?
        `Frame ${formatHex(first)} (${formatGpa(first)})` :
        `Frames ${formatHex(first)}–${formatHex(first + framesPerCell)} ` +
            `(${formatFrames(framesPerCell)} from ${formatGpa(first)})`;
    if (this.shown.share(cell, BACKED) === 0) {
      return `${where}: ` +
          (this.shown.known[cell] ? 'no memslot' : 'not known yet');
    }
    const parts = [];
    for (const {byte, name} of LAYERS) {
      const share = this.shown.share(cell, byte) / 255;
      if (share === 0) continue;
      const exact = framesPerCell === 1 || byte === WAITING;
      parts.push(exact ? name : `${name} ${formatPercent(share)}`);
    }
    const mapped = LAYERS.slice(0, 3).some(
        ({byte}) => this.shown.share(cell, byte) > 0);
    if (!mapped) parts.unshift('unmapped');
    if (this.shown.partial[cell]) parts.push('seen in part only');
    return `${where}: ${parts.join(', ')}`;
  }

  #speak() {
    setText(this.spoken, this.describe(this.cursorGfn));
  }

  showTip(gfn, x, y) {
    this.tip.hidden = gfn < 0;
    if (gfn < 0) return;
    setText(this.tip, this.describe(gfn));
    const room = this.canvas.clientWidth - this.tip.offsetWidth;
    this.tip.style.left = `${Math.max(0, Math.min(x + 14, room))}px`;
    this.tip.style.top = `${y + 18}px`;
  }

  stop() {
    this.resizes.disconnect();
    this.scheme.removeEventListener('change', this.onScheme);
    this.unbindInput();
  }

  snapshot() {
    const {shown} = this;
    return {
      slot: this.slot?.name ?? null,
      firstGfn: shown?.firstGfn,
      framesPerCell: shown?.framesPerCell,
      cellCount: shown?.count,
      cells: shown ? hexOf(shown.bytes) : '',
      settled: Boolean(this.settledAt) && this.swept,
      // Since the page was opened.
      firstSettledMs: this.firstSettledAt,
      // From the key or wheel to the drawn answer.
      settleMs: this.settledAt ? this.settledAt - this.movedAt : null,
      layout: this.#layout(),
      cursorGfn: this.cursorGfn,
      cellText: this.spoken.textContent,
      layers: Object.fromEntries(LAYERS.map(
          ({byte, key}) => [key, {
            shown: !this.hidden.has(byte),
            text: this.layerValues.get(byte).textContent,
          }])),
    };
  }
}

function hexOf(bytes) {
  return Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('');
}

function sameFrames(slot, other) {
  return slot.name === other?.name && slot.baseGfn === other.baseGfn &&
      slot.frameCount === other.frameCount;
}

function shortName(slot) {
  return slot.name.split('/').pop();
}

function countOf(cells, byte) {
  let count = 0;
  for (let cell = 0; cell < cells.count; ++cell) {
    if (cells.share(cell, byte) > 0) ++count;
  }
  return count;
}
