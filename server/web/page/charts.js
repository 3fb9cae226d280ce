// Small charts: a line over time, and rows of bars. Each says in words what it
// draws.

import {element, replaceChildren, setAttribute, setText, svgElement} from './dom.js';

const WIDTH = 240;
const HEIGHT = 56;
const SAMPLES = 120;

// The last samples of a quantity.
export class LineChart {
  // `format`: value -> text.
  constructor(title, format, note) {
    this.title = title;
    this.format = format;
    this.values = [];
    this.area = svgElement('path', {className: 'area'});
    this.line = svgElement(
        'path', {className: 'line', 'vector-effect': 'non-scaling-stroke'});
    this.svg = svgElement(
        'svg', {
          viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
          preserveAspectRatio: 'none',
          role: 'img',
        },
        svgElement('path', {
          className: 'grid',
          d: `M0 ${HEIGHT / 2}H${WIDTH}M0 0.5H${WIDTH}`,
          'vector-effect': 'non-scaling-stroke',
        }),
        this.area, this.line);
    this.value = element('strong', {className: 'num'}, '–');
    this.top = element('span', {className: 'chart-top num'});
    this.note = element('p', {className: 'note'}, note);
    this.element = element(
        'figure', {className: 'chart'},
        element('figcaption', {}, element('span', {}, title), this.value),
        element('div', {className: 'plot'}, this.svg, this.top), this.note);
  }

  // null: not known at that moment.
  add(value) {
    this.values.push(value);
    if (this.values.length > SAMPLES) this.values.shift();
    this.#render();
  }

  setNote(text) {
    setText(this.note, text);
  }

  #render() {
    const known = this.values.filter((value) => value !== null);
    const last = this.values.at(-1);
    const highest = Math.max(0, ...known);
    const scale = highest || 1;
    const step = WIDTH / (SAMPLES - 1);
    const offset = SAMPLES - this.values.length;
    let path = '';
    let start = null;
    let end = 0;
    this.values.forEach((value, i) => {
      if (value === null) return;
      const x = ((i + offset) * step).toFixed(1);
      const y = (HEIGHT - 1 - value / scale * (HEIGHT - 3)).toFixed(1);
      path += `${path ? 'L' : 'M'}${x} ${y}`;
      start ??= x;
      end = x;
    });
    this.line.setAttribute('d', path);
    this.area.setAttribute(
        'd', path ? `${path}L${end} ${HEIGHT}L${start} ${HEIGHT}Z` : '');
    setText(this.value, last === null ? '–' : this.format(last));
    setText(this.top, highest ? this.format(highest) : '');
    setAttribute(
        this.svg, 'aria-label',
        `${this.title}: ${this.value.textContent} now, at most ` +
            `${this.format(highest)} in the last ` +
            `${this.values.length} samples`);
  }

  snapshot() {
    return {title: this.title, values: [...this.values],
            text: this.value.textContent};
  }
}

// Rows of a label, a bar and texts; the bars are decoration.
export class BarChart {
  constructor(title, columns, note) {
    this.title = title;
    this.body = element('tbody');
    this.note = element('p', {className: 'note'}, note);
    this.value = element('strong', {className: 'num'});
    this.element = element(
        'figure', {className: 'chart'},
        element('figcaption', {}, element('span', {}, title), this.value),
        element(
            'table', {className: 'bars', 'aria-label': title},
            element('thead', {}, element('tr', {}, columns.map(
                (text) => element('th', {scope: 'col'}, text)))),
            this.body),
        this.note);
  }

  // rows: [{label, title, share (0..1), texts: [...]}]
  set(rows, value, note) {
    setText(this.value, value);
    setText(this.note, note);
    replaceChildren(this.body, rows.map(({label, title, share, texts}) => {
      const bar = element('i', {className: 'bar'});
      bar.style.width = `${Math.max(share > 0 ? 1 : 0, share * 100)}%`;
      return element(
          'tr', {}, element('th', {scope: 'row', title}, label),
          element('td', {className: 'bar-cell'}, bar),
          texts.map((text) => element('td', {className: 'num'}, text)));
    }));
  }

  snapshot() {
    return {
      title: this.title,
      value: this.value.textContent,
      rows: [...this.body.children].map(
          (row) => [...row.children].map((cell) => cell.textContent)),
      note: this.note.textContent,
    };
  }
}
