// The list of VMs: one row each, with a strip of its memory.

import * as api from './api.js';
import {ALL, BACKED, DIRTY, MAPPED_1G, MAPPED_2M, MAPPED_4K} from './cells.js';
import {card, element, replaceChildren, setText} from './dom.js';
import {formatFrames, formatPercent, formatRate, words} from './format.js';
import {readColours} from './heatmap_paint.js';
import {changeMark, faultRate, mappedFrames, Overview, slotFrames} from './vm_figures.js';

const STRIP_CELLS = 512;
const STRIP_WIDTH = 512;
const STRIP_HEIGHT = 18;
const SLOT_GAP = 4;  // in cells
// Overviews cost the daemon a walk: of VMs that have changed only, which is
// looked at no more often than this.
const OVERVIEW_MS = 5000;
// Rows that are kept up to date; the list says so if there are more.
const MAX_ROWS = 100;
const COLUMNS = ['VM', 'State', 'Memory', 'Mapped', 'Faults', 'Dirty',
                 'Waiting', 'Map'];

export class VmList {
  constructor() {
    this.rows = new Map();  // by keyOf()
    this.note = element('p', {className: 'note', role: 'status'}, 'Loading…');
    this.body = element('tbody');
    this.table = element(
        'table', {className: 'vms', hidden: true},
        element('thead', {}, element('tr', {}, COLUMNS.map(
            (text) => element('th', {scope: 'col'}, text)))),
        this.body);
    this.element = card('Virtual machines', {className: 'list-card'},
                        this.table, this.note);
  }

  async refresh() {
    const vms = await api.list('VmService', 'ListVms', {}, 'vms');
    const shown = vms.slice(0, MAX_ROWS);
    const keys = shown.map(keyOf);
    if (keys.join() !== [...this.rows.keys()].join()) {
      this.rows = new Map(shown.map(
          (vm) => [keyOf(vm), this.rows.get(keyOf(vm)) ?? new VmRow(vm.name)]));
      replaceChildren(this.body,
                      [...this.rows.values()].map(({element}) => element));
    }
    this.table.hidden = vms.length === 0;
    setText(this.note, noteOf(vms.length, shown.length));
    for (const vm of shown) {
      const row = this.rows.get(keyOf(vm));
      row.setVm(vm);
      try {
        await row.refresh();
      } catch (error) {
        // Deleted since it was listed: the next list is without it.
        if (!error.notFound) throw error;
      }
    }
  }

  stop() {}

  snapshot() {
    return [...this.rows.values()].map((row) => row.snapshot());
  }
}

// Another VM may have the name of one that was deleted.
function keyOf({name, createTime}) {
  return `${name} ${createTime}`;
}

function noteOf(count, shown) {
  if (count === 0) {
    return 'There are no VMs. Make one: tdpctl vm create NAME --vcpus=1';
  }
  return shown < count ? `The first ${shown} of ${count} VMs.` : '';
}

class VmRow {
  constructor(name) {
    this.name = name;
    this.id = name.replace('vms/', '');
    this.state = element('span', {className: 'tag'});
    this.cells = Object.fromEntries(
        ['memory', 'mapped', 'faults', 'dirty', 'waiting'].map(
            (key) => [key, element('td', {className: 'num'}, '–')]));
    this.strip = element('canvas', {
      className: 'strip',
      width: STRIP_WIDTH,
      height: STRIP_HEIGHT,
      role: 'img',
    });
    this.element = element(
        'tr', {dataset: {vm: name}},
        element('th', {scope: 'row'},
                element('a', {href: `#/${name}`}, this.id)),
        element('td', {}, this.state), Object.values(this.cells),
        element('td', {className: 'strip-cell'}, this.strip));
    this.stats = null;
    this.slots = null;
    this.slotsAt = -Infinity;
    this.overview = new Overview(name);
    this.overviewMark = null;  // of what the overview tells of
  }

  setVm(vm) {
    const state = words(vm.state, 'STATE_');
    this.state.className = `tag tag-${state}`;
    setText(this.state, state);
  }

  async refresh() {
    const {stats} =
        await api.call('StatsService', 'GetVmStats', {vm: this.name});
    const before = this.stats;
    this.stats = stats;
    await this.#refreshOverview();
    const memory = slotFrames(this.slots);
    const mapped = mappedFrames(stats);
    setText(this.cells.memory, formatFrames(memory));
    setText(this.cells.mapped, formatFrames(mapped) +
                (memory ? ` (${formatPercent(mapped / memory)})` : ''));
    setText(this.cells.faults, formatRate(faultRate(stats, before)));
    setText(this.cells.waiting, stats.waitingAccessCount);
    this.cells.waiting.classList.toggle(
        'alert', stats.waitingAccessCount !== '0');
    setText(this.cells.dirty, this.overview.dirtyText);
    this.strip.setAttribute(
        'aria-label',
        `Map of ${this.id}: ${this.cells.mapped.textContent} mapped, ` +
            `${this.cells.dirty.textContent} dirty`);
  }

  async #refreshOverview() {
    const now = performance.now();
    // A sweep that is under way ends first.
    if (!this.overview.needsMore && now - this.slotsAt >= OVERVIEW_MS) {
      this.slots = await api.list(
          'MemslotService', 'ListMemslots', {parent: this.name}, 'memslots');
      this.slotsAt = now;
      const mark = changeMark(this.stats) + JSON.stringify(this.slots);
      if (mark === this.overviewMark) return;
      this.overviewMark = mark;
      const each = Math.floor(STRIP_CELLS / Math.max(1, this.slots.length));
      this.overview.restart(this.slots, Math.max(1, each));
      this.#draw();
    }
    if (!this.overview.needsMore) return;
    try {
      await this.overview.refresh();
    } finally {
      this.#draw();
    }
  }

  #draw() {
    const context = this.strip.getContext('2d');
    const colours = readColours(document.documentElement);
    context.clearRect(0, 0, STRIP_WIDTH, STRIP_HEIGHT);
    const {views} = this.overview;
    const total = views.reduce(
        (sum, {count}) => sum + count + SLOT_GAP, -SLOT_GAP);
    let index = 0;
    for (const cells of views) {
      for (let cell = 0; cell < cells.count; ++cell, ++index) {
        const x = Math.floor(index / total * STRIP_WIDTH);
        const width =
            Math.max(1, Math.floor((index + 1) / total * STRIP_WIDTH) - x);
        const bar = (byte, colour, bottom, room) => {
          const share = cells.share(cell, byte) / ALL;
          const height = share ? Math.max(3, Math.round(share * room)) : 0;
          context.fillStyle = colours[colour];
          context.fillRect(x, bottom - height, width, height);
          return bottom - height;
        };
        const known = cells.known[cell];
        if (known && cells.share(cell, BACKED) === 0) continue;
        context.fillStyle = colours[known ? 'cell-none' : 'cell-unknown'];
        context.fillRect(x, 0, width, STRIP_HEIGHT);
        const room = STRIP_HEIGHT - 4;
        let bottom = room;
        bottom = bar(MAPPED_1G, 'cell-1g', bottom, room);
        bottom = bar(MAPPED_2M, 'cell-2m', bottom, room);
        bar(MAPPED_4K, 'cell-4k', bottom, room);
        bar(DIRTY, 'cell-dirty', STRIP_HEIGHT, 3);
      }
      index += SLOT_GAP;
    }
  }

  snapshot() {
    return {
      name: this.name,
      state: this.state.textContent,
      ...Object.fromEntries(Object.entries(this.cells).map(
          ([key, cell]) => [key, cell.textContent])),
      mappedFrames: this.stats ? mappedFrames(this.stats) : null,
      memoryFrames: this.slots ? slotFrames(this.slots) : null,
      overviewKnown: this.overviewMark !== null && this.overview.known,
    };
  }
}
