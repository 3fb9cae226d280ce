// The figures that the list and the page of a VM have in common.

import * as api from './api.js';
import {Cells, DIRTY, formatTotal} from './cells.js';
import {faultCount} from './vm_charts.js';

// That one VM's overview may take at a time.
const OVERVIEW_MS = 100;

export function mappedFrames(stats) {
  return Number(stats.leaf4kCount) + 512 * Number(stats.leaf2mCount) +
      512 * 512 * Number(stats.leaf1gCount);
}

export function slotFrames(slots) {
  return slots.reduce((sum, {frameCount}) => sum + Number(frameCount), 0);
}

// Changes when something has changed that the map could show: whatever changes
// an entry is a fault, a host call, or a change of the number of leaves.
export function changeMark(stats) {
  return [
    stats.leaf4kCount,
    stats.leaf2mCount,
    stats.leaf1gCount,
    stats.hostCallCount,
    stats.waitingAccessCount,
    faultCount(stats),
  ].join();
}

// Faults a second between two readings of VmStats.
export function faultRate(now, before) {
  if (!before) return null;
  const seconds =
      (new Date(now.sampleTime) - new Date(before.sampleTime)) / 1000;
  if (seconds <= 0) return null;
  return Math.max(0, faultCount(now) - faultCount(before)) / seconds;
}

// A few cells of each memslot of a VM: what its figures and its strip need. An
// answer of the daemon tells of so many leaves only: all is asked for bit by
// bit.
export class Overview {
  constructor(vm) {
    this.vm = vm;
    this.views = [];      // Cells, one of each memslot
    this.viewIndex = 0;   // where the sweep over them goes on
    this.nextCell = 0;
  }

  // Asks for all of it again. What is known of memslots that are the same stays
  // until there is an answer.
  restart(slots, cellsPerSlot) {
    const views = slots.map((slot) => emptyView(slot, cellsPerSlot));
    this.views = views.map(
        (view) => this.views.find((other) => other.covers(view)) ?? view);
    this.viewIndex = 0;
    this.nextCell = 0;
  }

  get needsMore() {
    return this.viewIndex < this.views.length;
  }
  get known() {
    return this.views.every(({known}) => known.every(Boolean));
  }
  get dirtyText() {
    return formatTotal(this.views, DIRTY);
  }

  // Goes on where it stopped.
  async refresh() {
    const end = performance.now() + OVERVIEW_MS;
    while (this.needsMore) {
      const view = this.views[this.viewIndex];
      const rest = view.count - this.nextCell;
      this.nextCell = view.take(await api.getHeatmap(
          this.vm, view.gfnOf(this.nextCell), rest * view.framesPerCell,
          rest));
      if (this.nextCell >= view.count) {
        ++this.viewIndex;
        this.nextCell = 0;
      }
      if (performance.now() >= end) break;
    }
  }
}

// At most `count` cells, and one more if the memslot does not begin with one.
function emptyView({baseGfn, frameCount}, count) {
  const base = Number(baseGfn);
  const end = base + Number(frameCount);
  let framesPerCell = 1;
  const first = () => Math.floor(base / framesPerCell) * framesPerCell;
  while (first() + framesPerCell * count < end) framesPerCell *= 2;
  return new Cells(
      first(), framesPerCell, Math.ceil((end - first()) / framesPerCell));
}
