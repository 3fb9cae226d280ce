// Makes the pictures of deploy/README.md in the folder TDPD_SCREENSHOTS.
//
//   node screenshots.js TDPD

'use strict';

const assert = require('assert').strict;
const path = require('path');
const {Browser} = require('./browser.js');
const {Daemon} = require('./daemon.js');

const MIB_FRAMES = 256;
const GIB_FRAMES = 1024 * MIB_FRAMES;
const MAX_BYTES = 120 * 1000;
const SIZES = {
  list: {width: 1280, height: 346},
  vm: {width: 1100, height: 760},
};
const CHART_SAMPLES = 15;

// A VM whose memory shows every layer of the map: its first vCPU waits, the
// other one writes.
async function makeShop(daemon) {
  const vm = await daemon.makeVm('shop', [['ram', 0, 64 * MIB_FRAMES]], 2);
  const change = (method, start, end, more) => daemon.ranged(
      method, vm, start * MIB_FRAMES, end * MIB_FRAMES, more);
  await change('mapRange', 0, 20, {write: true});
  await change('mapRange', 28, 40, {write: false});
  await change('mapRange', 40, 44, {maxLevel: 'PAGE_LEVEL_4K', write: true});
  await change('ageRange', 4, 64);
  await change('protectRange', 36, 38, {access: {read: true}});
  await change('writeProtectRange', 41, 43);
  await daemon.loadTouchGuest(vm, 44 * MIB_FRAMES, 58 * MIB_FRAMES,
                              {pattern: 'PATTERN_HOT_TENTH', passCount: -1}, 1);
  await daemon.waitAt(vm, 37 * MIB_FRAMES);
  return vm;
}

// Takes away what the guest uses, until the answer is called.
function stir(daemon, vm) {
  let stopped = false;
  const run = async () => {
    for (let i = 0; !stopped; i = (i + 1) % 14) {
      const start = (44 + i) * MIB_FRAMES;
      await daemon.ranged('zapRange', vm, start, start + MIB_FRAMES);
      await daemon.ranged('writeProtectRange', vm, 44 * MIB_FRAMES,
                          50 * MIB_FRAMES);
      await daemon.ranged('ageRange', vm, 44 * MIB_FRAMES, 58 * MIB_FRAMES);
      await new Promise((resolve) => setTimeout(resolve, 400));
    }
  };
  const running = run();
  return () => {
    stopped = true;
    return running;
  };
}

async function makeOthers(daemon) {
  const cache = await daemon.makeVm('cache', [['ram', 0, 2 * GIB_FRAMES]]);
  await daemon.ranged('mapRange', cache, 0, GIB_FRAMES, {write: true});
  await daemon.ranged('zapRange', cache, 90000, 120000);
  const mail = await daemon.makeVm('mail', [
    ['low', 0, GIB_FRAMES],
    ['high', 4 * GIB_FRAMES, 63 * GIB_FRAMES],
  ]);
  await daemon.ranged('mapRange', mail, 0, 40 * MIB_FRAMES, {write: true});
  for (const [start, count] of [[9, 700], [23, 300], [41, 900]]) {
    await daemon.ranged('mapRange', mail, start * GIB_FRAMES,
                        start * GIB_FRAMES + count * MIB_FRAMES,
                        {write: start === 23});
  }
  const live = await daemon.makeVm('build', [['ram', 0, 64 * MIB_FRAMES]]);
  await daemon.loadTouchGuest(live, 0, 64 * MIB_FRAMES, {passCount: -1});
  await daemon.call('VmService', 'startVm', {name: live});
  await daemon.makeVm('new', [['ram', 0, GIB_FRAMES]]);
}

async function main(tdpd, folder) {
  const daemon = await Daemon.start(tdpd);
  let browser;
  try {
    browser = await Browser.start();
    const shop = await makeShop(daemon);
    await makeOthers(daemon);
    const page = await browser.open();
    await page.openLink(daemon.origin, daemon.token);
    await page.until('the list', ({list}) => list?.length === 5 &&
        list.every(({faults}) => faults !== '–'));
    await take(page, 'list', path.join(folder, 'list'));
    await page.page.setViewport(SIZES.vm);
    await page.openVm(shop);
    await page.clickFrame(37 * MIB_FRAMES);
    const stop = stir(daemon, shop);
    const watch =
        daemon.stream('WorkingSetService', 'watchWorkingSet', {vm: shop});
    await page.until('curves in the charts',
                     ({vm}) => vm.charts[0].values.length > CHART_SAMPLES);
    await page.page.mouse.move(0, 0);
    await take(page, 'vm', path.join(folder, 'memory'));
    await take(page, 'vm', path.join(folder, 'charts'), '.charts-card');
    watch.cancel();
    await stop();
    assert.deepEqual(page.problems, []);
  } finally {
    await browser?.stop();
    daemon.remove();
  }
}

// Of what is seen, or of one element.
async function take(page, size, name, selector) {
  await page.page.setViewport(SIZES[size]);
  for (const value of ['light', 'dark']) {
    await page.page.emulateMediaFeatures(
        [{name: 'prefers-color-scheme', value}]);
    // Two frames later it is drawn.
    await page.page.evaluate(() => new Promise((resolve) =>
        requestAnimationFrame(() => requestAnimationFrame(resolve))));
    const what = selector ? await page.page.$(selector) : page.page;
    const png = await what.screenshot({path: `${name}-${value}.png`});
    console.log(`${name}-${value}.png: ${png.length} bytes`);
    assert.ok(png.length < MAX_BYTES, 'the picture is too large');
  }
}

main(process.argv[2], process.env.TDPD_SCREENSHOTS)
    .then(() => process.exit(0), (error) => {
      console.error(error);
      process.exit(1);
    });
