// What the page does when it is refused, when answers fail or come late or in
// parts, and when VMs change under it.

'use strict';

const assert = require('assert').strict;
const {LAYERS} = require('./cells.js');

// To be run in this order: the last one stops the daemon. `shown` is a VM that
// is at rest, one of two.
exports.upsetTests = ({daemon, browser, page, shown}) => ({
  async aWrongTokenIsToldWithWhatToDo() {
    const other = await browser.open();
    await other.openLink(daemon.origin, 'x'.repeat(43));
    await other.until('the refusal',
                      ({status}) => status === 'not authorized');
    const text = await other.page.$eval('main', (main) => main.textContent);
    assert.match(text, /does not accept/);
    assert.match(text, /tdpctl web/);
    // The right one, pasted, opens the page.
    await other.page.type('#token', `${daemon.origin}/#token=${daemon.token}`);
    await other.page.keyboard.press('Enter');
    await other.until('the list', ({list}) => list?.length === 2);
    await other.close();
  },

  async aDeletedVmIsTold() {
    const gone = await daemon.makeVm('gone', [['ram', 0, 512]]);
    const other = await browser.open();
    await other.openLink(daemon.origin, daemon.token);
    await other.openVm(gone);
    await daemon.call('VmService', 'deleteVm', {name: gone});
    const {banner} = await other.until(
        'the end of the VM', ({status}) => status === 'deleted');
    assert.match(banner, /gone does not exist/);
    await other.close();
  },

  async lostEventsAreTold() {
    const other = await browser.open();
    await other.openLink(daemon.origin, daemon.token);
    await other.intercept((request) => {
      if (!request.url().includes('/api/events')) return false;
      const first = request.url().includes('startSequence=1&');
      const event = {sequence: '9000', eventTime: '2026-01-01T00:00:00Z',
                     vcpuExited: {vcpuIndex: 0, reason: 'HLT'}};
      respond(request, 200, {events: first ? [event] : [],
                             nextSequence: '9001', truncated: first});
      return true;
    });
    await other.openVm(shown);
    const {vm} = await other.until('the gap', (now) => now.vm.events.gap);
    assert.match(vm.events.gap, /9000/);
    assert.equal(vm.events.rows.length, 1);
    await other.close();
  },

  async aMemslotMadeAnewWithAnotherSizeIsShownWithIt() {
    const resized = await daemon.makeVm('resized', [['ram', 0, 512]]);
    const other = await browser.open();
    await other.openLink(daemon.origin, daemon.token);
    await other.openVm(resized);
    await other.page.click('#pause');
    await daemon.call('MemslotService', 'deleteMemslot',
                      {name: `${resized}/memslots/ram`});
    await daemon.call('MemslotService', 'createMemslot', {
      parent: resized,
      memslotId: 'ram',
      memslot: {baseGfn: 0, frameCount: 1024},
    });
    await other.page.click('#pause');
    await other.until('the new size', ({vm}) => vm.map.settled &&
        vm.map.cellCount === 1024 && vm.figures.memory === '4 MiB');
    assert.deepEqual(
        await other.page.$$eval('select[aria-label="Memslot"] option',
                                (all) => all.map((one) => one.textContent)),
        ['ram · 4 MiB']);
    await other.close();
    await daemon.call('VmService', 'deleteVm', {name: resized});
  },

  // First with fewer events than the page has seen, then with as many.
  async aVmMadeAnewUnderItsNameIsShown() {
    const slots = (frames) => frames.map(
        (count, i) => [`ram${i}`, i * 4096, count]);
    const again = await daemon.makeVm('again', slots([512, 512, 512]));
    const other = await browser.open();
    await other.openLink(daemon.origin, daemon.token);
    await other.openVm(again);
    for (const frames of [1024, 2048]) {
      await other.page.click('#pause');
      await daemon.call('VmService', 'deleteVm', {name: again});
      await daemon.makeVm('again', slots([frames]));
      const events = (await daemon.eventsSoFar(again)).map(
          ({sequence}) => Number(sequence)).reverse();
      await other.page.click('#pause');
      await other.until('the new VM', ({status, vm}) => status === 'live' &&
          vm.map.settled && vm.map.cellCount === frames &&
          JSON.stringify(vm.events.rows.map(({sequence}) => sequence)) ===
              JSON.stringify(events));
    }
    await other.close();
    await daemon.call('VmService', 'deleteVm', {name: again});
  },

  async anAnswerThatComesAfterItsPageIsLeftIsIgnored() {
    const other = await browser.open();
    await other.openLink(daemon.origin, daemon.token);
    await other.openVm(shown);
    let held = null;
    await other.intercept((request) => {
      if (held || !request.url().includes('/GetVmStats')) return false;
      held = request;
      return true;
    });
    await other.until('a request under way', () => held !== null);
    await other.recordStatus();
    await other.page.evaluate(() => location.hash = '#/');
    await other.until('the list',
                      ({list, status}) => list && status === 'live');
    await respond(held, 404, {error: {code: 'NOT_FOUND', message: 'late'}});
    const lists = () => other.requests.filter(
        (url) => url.includes('/ListVms')).length;
    const before = lists();
    await other.until('the list twice more', () => lists() >= before + 2);
    assert.deepEqual(new Set(await other.recordedStatus()),
                     new Set(['connecting', 'live']));
    await other.close();
  },

  async oneFailedAnswerOfEachKindIsMadeUpFor() {
    const kinds = ['events', 'GetVm?', 'GetVmStats', 'ListMemslots',
                   'ListWaitingAccesses', 'heatmap', 'charts', 'workingSet',
                   'WalkGfn'];
    const failed = new Set();
    const other = await browser.open();
    await other.openLink(daemon.origin, daemon.token);
    await other.until('the list', ({list}) => list?.length === 2);
    await other.recordStatus();
    await other.intercept((request) => {
      const kind = kinds.find((name) => request.url().includes(`/${name}`));
      if (!kind || failed.has(kind)) return false;
      failed.add(kind);
      respond(request, 500, {error: {code: 'INTERNAL', message: 'just once'}});
      return true;
    });
    await other.openVm(shown);
    await other.clickFrame(5);
    const {vm} = await other.until('everything', ({vm, status}) =>
        status === 'live' && vm.waiting.length === 1 && vm.events.rows.length &&
        vm.walk.gfn === 5 && vm.walk.entries.length > 0);
    assert.deepEqual([...failed].sort(), [...kinds].sort());
    assert.equal(vm.figures.memory, '16 MiB');
    assert.match(vm.figures.dirty, /^[1-9]/);
    const seen = await other.recordedStatus();
    assert.ok(seen.includes('error'));
    assert.ok(!seen.includes('connection lost'));
    await other.close();
  },

  async anOverviewGoesOnUntilAllOfItIsKnown() {
    const other = await browser.open();
    await other.intercept((request) => {
      if (!request.url().includes('/api/heatmap')) return false;
      respond(request, 200, dirtyCells(new URL(request.url()).searchParams));
      return true;
    });
    await other.openLink(daemon.origin, daemon.token);
    const {list} = await other.until('both strips', ({list}) =>
        list?.length === 2 && list.every((row) => row.overviewKnown));
    assert.deepEqual(list.map(({dirty}) => dirty), ['16 MiB', '64 GiB']);
    await other.openVm(shown);
    await other.until('what is dirty',
                      ({vm}) => vm.figures.dirty === '16 MiB');
    await other.close();
  },

  async whatIsRoundedOrNotKnownIsMarked() {
    const texts = await page.page.evaluate(async () => {
      const {Cells, DIRTY, formatTotal} = await import('/cells.js');
      const textOf = (framesPerCell, count, nextGfn, ...dirty) => {
        const cells = new Cells(0, framesPerCell, count);
        const bytes = new Uint8Array(8 * dirty.length);
        dirty.forEach((share, i) => bytes[8 * i + DIRTY] = share);
        const next = cells.take({
          firstGfn: '0',
          nextGfn: String(nextGfn),
          cellCount: dirty.length,
          cells: btoa(String.fromCharCode(...bytes)),
        });
        return [next, formatTotal([cells], DIRTY)];
      };
      return [
        textOf(1, 2, 2, 255, 0),
        textOf(128, 1, 128, 1),              // 1 * 255 / 128, rounded down
        textOf(65536, 2, 131072, 1, 255),    // a frame, or 513
        textOf(65536, 2, 65536, 255),        // the second one is not known
        textOf(65536, 2, 300, 1),            // nor most of the first one
      ];
    });
    assert.deepEqual(texts, [
      [2, '4 KiB'], [1, '4 KiB'], [2, '≈ 257 MiB'], [1, '≥ 256 MiB'],
      [1, '≥ 4 KiB'],
    ]);
  },

  async aLostConnectionIsTold() {
    assert.equal(await daemon.stop(), 0);
    const {banner} = await page.until(
        'the loss', ({status}) => status === 'connection lost');
    assert.match(banner, /does not answer/);
  },
});

function respond(request, status, body) {
  return request.respond({
    status,
    contentType: 'application/json',
    body: JSON.stringify(body),
  });
}

// An answer of /api/heatmap: all cells are dirty, but it tells of an overview's
// first ones only. A map, which has more cells, is told of at once.
function dirtyCells(query) {
  const firstGfn = Number(query.get('firstGfn'));
  const cellCount = Number(query.get('cellCount'));
  const framesPerCell = Number(query.get('frameCount')) / cellCount;
  const told = cellCount > 512 ? cellCount : Math.min(cellCount, 16);
  const bytes = Buffer.alloc(cellCount * LAYERS);
  bytes.fill(255, 0, told * LAYERS);
  return {
    firstGfn: String(firstGfn),
    framesPerCell: String(framesPerCell),
    cellCount,
    nextGfn: String(firstGfn + told * framesPerCell),
    cells: bytes.toString('base64'),
  };
}
