// The walk panel: the entries from the root to a frame, bit by bit.

import * as api from './api.js';
import {card, element, replaceChildren, setText} from './dom.js';
import {accessText, formatGpa, formatHex, formatRaw} from './format.js';
import {decode, indexInTable, levelName, stateOf} from './spte.js';

export class Walk {
  constructor(vm) {
    this.vm = vm;
    this.gfn = null;
    this.sptes = [];
    this.signature = '';
    this.isOld = false;  // what is shown of the frame, if anything
    this.turn = 0;       // of the last request
    this.opened = new Map();  // level -> whether its table of fields is shown
    this.status = element(
        'p', {className: 'note', 'aria-live': 'polite'},
        'Click a frame, or press Enter on it, to see the entries on its path.');
    this.entries = element('ol', {className: 'walk'});
    this.element = card('Walk', {className: 'walk-card'}, this.status,
                        this.entries);
  }

  async show(gfn) {
    this.gfn = gfn;
    this.signature = '';
    this.markOld();
    await this.refresh();
  }

  // An answer that is under way may be too old as well.
  markOld() {
    this.isOld = true;
    ++this.turn;
  }

  // If it is old; so it stays if there is no answer.
  async refresh() {
    if (this.gfn === null || !this.isOld) return;
    const turn = ++this.turn;
    const {sptes} = await api.call(
        'MmuService', 'WalkGfn', {vm: this.vm, gfn: String(this.gfn)});
    if (turn !== this.turn) return;
    this.isOld = false;
    const signature = JSON.stringify(sptes);
    if (signature === this.signature) return;
    this.signature = signature;
    this.sptes = sptes;
    this.#render();
  }

  #render() {
    const last = this.sptes.at(-1);
    setText(
        this.status,
        `Frame ${formatHex(this.gfn)}, address ${formatGpa(this.gfn)}: ` +
            summary(last));
    replaceChildren(this.entries, this.sptes.map((spte) => this.#entry(spte)));
  }

  #entry(spte) {
    const state = stateOf(spte);
    const level = levelName(spte);
    const isLast = spte === this.sptes.at(-1);
    const fields = decode(spte);
    const head = element(
        'summary', {},
        element('span', {className: 'walk-level'}, level),
        element('span', {className: 'walk-index'}, `[${indexInTable(spte)}]`),
        element('span', {className: `tag tag-${state.replace(' ', '-')}`},
                state),
        state === 'leaf' ? element('span', {className: 'mono'},
                                   accessText(spte.access)) : null,
        element('span', {className: 'mono dim'}, flags(spte)),
        element('span', {className: 'mono raw'}, formatRaw(BigInt(spte.raw))),
        bitStrip(fields));
    const details = element(
        'details', {open: this.opened.get(level) ?? isLast}, head,
        fieldTable(fields));
    // Not on 'toggle', which tells of entries that begin open, too.
    head.addEventListener(
        'click', () => this.opened.set(level, !details.open));
    return element('li', {dataset: {level, raw: spte.raw}}, details);
  }

  snapshot() {
    return {
      gfn: this.gfn,
      entries: [...this.entries.children].map((entry) => ({
        level: entry.dataset.level,
        open: entry.querySelector('details').open,
        raw: entry.dataset.raw,
        index: entry.querySelector('.walk-index').textContent,
        state: entry.querySelector('.tag').textContent,
        fields: [...entry.querySelectorAll('tbody tr')].map(
            (row) => [...row.children].map((cell) => cell.textContent)),
        bits: [...entry.querySelectorAll('.bit')].map(
            (bit) => bit.dataset.on).join(''),
      })),
    };
  }
}

function summary(spte) {
  const level = levelName(spte);
  switch (stateOf(spte)) {
    case 'leaf':
      return `mapped by a ${level} leaf, access ${accessText(spte.access)}`;
    case 'frozen':
      return `the ${level} entry is being changed`;
    default:
      return `not mapped; the path ends at level ${level}`;
  }
}

function flags(spte) {
  if (stateOf(spte) !== 'leaf') return '';
  return [
    spte.accessed && 'A',
    spte.dirty && 'D',
    spte.hostWritable && 'HW',
    spte.mmuWritable && 'MW',
  ].filter(Boolean).join(' ');
}

function fieldTable(fields) {
  const row = ({bits, name, value, text, meaning}) => element(
      'tr', {className: value ? 'is-set' : ''},
      element('td', {className: 'mono'}, bits), element('td', {}, name),
      element('td', {className: 'mono'}, text), element('td', {}, meaning));
  return element(
      'table', {className: 'fields'},
      element('thead', {},
              element('tr', {}, ['Bits', 'Field', 'Value', 'Meaning'].map(
                  (text) => element('th', {scope: 'col'}, text)))),
      element('tbody', {}, fields.map(row)));
}

// 64 boxes; the table beside it says the same in words.
function bitStrip(fields) {
  const bits = fields.flatMap(({high, low, name, value}, index) => Array.from(
      {length: high - low + 1}, (_, i) => {
        const bit = high - i;
        const on = Math.floor(value / 2 ** (bit - low)) % 2;
        return element('i', {
          className: `bit field-${index % 2}`,
          dataset: {on: String(on)},
          title: `bit ${bit} = ${on}: ${name}`,
        });
      }));
  return element('span', {className: 'bits', 'aria-hidden': 'true'}, bits);
}
