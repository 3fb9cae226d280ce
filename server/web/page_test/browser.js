// Chromium without a window, and what a test may ask of the page in it.

'use strict';

const fs = require('fs');
const os = require('os');
const path = require('path');
const puppeteer = require('puppeteer-core');

const PATIENCE_MS = 60000;
const POLL_MS = 100;

class Browser {
  static async start() {
    const browser = new Browser();
    browser.profile =
        fs.mkdtempSync(path.join(os.tmpdir(), 'tdpd_chromium_'));
    browser.chromium = await puppeteer.launch({
      executablePath: '/usr/bin/chromium',
      headless: true,
      userDataDir: browser.profile,
      args: ['--no-sandbox', '--disable-gpu', '--hide-scrollbars',
             '--force-device-scale-factor=1'],
    });
    return browser;
  }

  async open() {
    const page = await this.chromium.newPage();
    await page.setViewport({width: 1280, height: 800});
    return new Page(page);
  }

  async stop() {
    await this.chromium.close();
    fs.rmSync(this.profile, {recursive: true, force: true, maxRetries: 5});
  }
}

class Page {
  constructor(page) {
    this.page = page;
    this.problems = [];  // what the console and the network complain about
    this.requests = [];  // URLs
    page.on('console', (message) => {
      if (message.type() === 'error') this.problems.push(message.text());
    });
    page.on('pageerror', (error) => this.problems.push(String(error)));
    // Without what stands behind the #, which is not sent.
    page.on('request',
            (request) => this.requests.push(request.url().split('#')[0]));
  }

  // The link that "tdpctl web" prints.
  async openLink(origin, token) {
    await this.page.goto(`${origin}/#token=${token}`);
  }

  async openVm(vm) {
    await this.page.evaluate((route) => location.hash = route, `#/${vm}`);
    await this.until(`${vm} is shown`, (now) => now.vm?.name === vm &&
        now.status === 'live' && now.vm.map.settled);
  }

  snapshot() {
    return this.page.evaluate(() => window.tdpd.snapshot());
  }

  // The first snapshot that `accept` likes.
  async until(what, accept) {
    const end = Date.now() + PATIENCE_MS;
    let last;
    while (Date.now() < end) {
      last = await this.snapshot();
      if (await accept(last)) return last;
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    throw new Error(`not within ${PATIENCE_MS} ms: ${what}; the page shows ` +
                    JSON.stringify(last).slice(0, 4000));
  }

  // `answer(request)` answers whether it takes care of the request.
  async intercept(answer) {
    await this.page.setRequestInterception(true);
    this.page.on('request', (request) => {
      if (!answer(request)) request.continue();
    });
  }

  // Every status that is shown from now on.
  recordStatus() {
    return this.page.evaluate(() => {
      const node = document.getElementById('status');
      window.recordedStatus = [node.textContent];
      new MutationObserver(() => window.recordedStatus.push(node.textContent))
          .observe(node, {childList: true, characterData: true, subtree: true});
    });
  }
  recordedStatus() {
    return this.page.evaluate(() => window.recordedStatus);
  }

  async key(...keys) {
    await this.page.focus('canvas.map');
    for (const key of keys) await this.page.keyboard.press(key);
  }

  // Clicks the cell of a frame on the map.
  async clickFrame(gfn) {
    const {vm: {map}} = await this.snapshot();
    const {left, cellWidth, cellHeight, columns} = map.layout;
    const cell = Math.floor((gfn - map.firstGfn) / map.framesPerCell);
    const canvas = await this.page.$('canvas.map');
    await canvas.scrollIntoView();
    const box = await canvas.boundingBox();
    await this.page.mouse.click(
        box.x + left + (cell % columns + 0.5) * cellWidth,
        box.y + (Math.floor(cell / columns) + 0.5) * cellHeight);
  }

  close() {
    return this.page.close();
  }
}

module.exports = {Browser};
