// What the map should show, worked out from the RPCs: 8 bytes for each frame,
// as server/web/heatmap.h has them.

'use strict';

const FRAMES = {PAGE_LEVEL_4K: 1, PAGE_LEVEL_2M: 512, PAGE_LEVEL_1G: 512 * 512};
const LAYER = {PAGE_LEVEL_4K: 0, PAGE_LEVEL_2M: 1, PAGE_LEVEL_1G: 2};
const [DIRTY, YOUNG, PROTECTED, WAITING, BACKED] = [3, 4, 5, 6, 7];
const LAYERS = 8;

// Calls `on(layer, gfn, frameCount)` for all that is true of frames of the VM.
async function forEachLayer(daemon, vm, startGfn, endGfn, on) {
  const {memslots} =
      await daemon.call('MemslotService', 'listMemslots', {parent: vm});
  for (const {baseGfn, frameCount} of memslots) {
    on(BACKED, Number(baseGfn), Number(frameCount));
  }
  const {accesses} =
      await daemon.call('EventService', 'listWaitingAccesses', {vm});
  for (const {gfn} of accesses) on(WAITING, Number(gfn), 1);
  const batches = await daemon.collect('MmuService', 'walkRange', {
    vm,
    range: {startGfn, endGfn},
    leavesOnly: true,
    presentOnly: true,
  });
  for (const spte of batches.flatMap(({sptes}) => sptes)) {
    const gfn = Number(spte.baseGfn);
    const frames = FRAMES[spte.level];
    const {read, write} = spte.access;
    on(LAYER[spte.level], gfn, frames);
    if (spte.dirty) on(DIRTY, gfn, frames);
    if (spte.accessed) on(YOUNG, gfn, frames);
    if (!read || (spte.hostWritable && !write)) on(PROTECTED, gfn, frames);
  }
}

// The bytes of the frames [startGfn, endGfn).
async function frameCells(daemon, vm, startGfn, endGfn) {
  const bytes = Buffer.alloc((endGfn - startGfn) * LAYERS);
  await forEachLayer(daemon, vm, startGfn, endGfn, (layer, gfn, frames) => {
    const end = Math.min(gfn + frames, endGfn);
    for (let i = Math.max(gfn, startGfn); i < end; ++i) {
      bytes[(i - startGfn) * LAYERS + layer] = 255;
    }
  });
  return bytes;
}

// Frames of [startGfn, endGfn) in each layer.
async function totals(daemon, vm, startGfn, endGfn) {
  const sums = new Array(LAYERS).fill(0);
  await forEachLayer(daemon, vm, startGfn, endGfn, (layer, gfn, frames) => {
    const end = Math.min(gfn + frames, endGfn);
    sums[layer] += Math.max(0, end - Math.max(gfn, startGfn));
  });
  return sums;
}

module.exports = {LAYERS, frameCells, totals};
