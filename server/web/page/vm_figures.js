// The figures that the list and the page of a VM have in common.

import {Cells, DIRTY} from './cells.js';
import * as api from './api.js';
import {faultCount} from './vm_charts.js';

const OVERVIEW_REQUESTS = 4;

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

// A few cells of each memslot: what an overview needs. What the answers do not
// tell of stays unknown.
export async function overview(vm, slot, count) {
  const base = Number(slot.baseGfn);
  const end = base + Number(slot.frameCount);
  let framesPerCell = 1;
  const first = () => Math.floor(base / framesPerCell) * framesPerCell;
  while (first() + framesPerCell * count < end) framesPerCell *= 2;
  const cells = new Cells(
      first(), framesPerCell, Math.ceil((end - first()) / framesPerCell));
  let cell = 0;
  for (let i = 0; i < OVERVIEW_REQUESTS && cell < cells.count; ++i) {
    const rest = cells.count - cell;
    cell = Math.max(cell + 1, cells.take(await api.getHeatmap(
                                  vm, cells.gfnOf(cell), rest * framesPerCell,
                                  rest)));
  }
  return cells;
}

export function dirtyFrames(overviews) {
  return overviews.reduce((sum, cells) => sum + cells.total(DIRTY), 0);
}
