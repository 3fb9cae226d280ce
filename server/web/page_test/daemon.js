// A daemon with the web page on, and calls to it by gRPC.

'use strict';

const childProcess = require('child_process');
const fs = require('fs');
const os = require('os');
const path = require('path');
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');

const SERVICES = ['dirty_log', 'event', 'memslot', 'mmu', 'stats', 'vcpu', 'vm',
                  'working_set'];
const CLOCK_TICKS = 100;  // a second, in /proc/PID/stat

class Daemon {
  static async start(binary) {
    const daemon = new Daemon();
    // Not TEST_TMPDIR: a socket's path holds 107 bytes.
    daemon.folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tdpd_page_'));
    const socket = path.join(daemon.folder, 'socket');
    const tokenFile = path.join(daemon.folder, 'token');
    const images = path.join(daemon.folder, 'images');
    fs.mkdirSync(images);
    daemon.process = childProcess.spawn(binary, [
      `--listen=unix:${socket}`, `--image_dir=${images}`,
      '--http=localhost:0', '--web', `--web_token_file=${tokenFile}`,
    ], {stdio: ['ignore', 'ignore', 'pipe']});
    daemon.ended = new Promise(
        (resolve) => daemon.process.on('exit', (code) => resolve(code)));
    daemon.origin = await readOrigin(daemon.process.stderr);
    daemon.token = fs.readFileSync(tokenFile, 'utf8').trim();
    daemon.api = loadApi();
    daemon.target = `unix:${socket}`;
    daemon.clients = {};
    return daemon;
  }

  // call('MmuService', 'mapRange', {...}). Enums are names and 64-bit integers
  // strings, as in proto3's JSON.
  call(service, method, request) {
    return new Promise((resolve, reject) => {
      this.#client(service)[method](
          request,
          (error, response) => error ? reject(error) : resolve(response));
    });
  }

  // All messages of a stream that ends.
  collect(service, method, request) {
    return new Promise((resolve, reject) => {
      const messages = [];
      const stream = this.#client(service)[method](request);
      stream.on('data', (message) => messages.push(message));
      stream.on('error', reject);
      stream.on('end', () => resolve(messages));
    });
  }

  // A stream that is cancelled in the end, and not read.
  stream(service, method, request) {
    const stream = this.#client(service)[method](request);
    stream.on('error', () => {});  // of the cancellation
    stream.resume();
    return stream;
  }

  // The events of a VM that are there; there must be one.
  eventsSoFar(vm) {
    return new Promise((resolve, reject) => {
      const stream =
          this.#client('EventService').watchEvents({vm, startSequence: 1});
      stream.on('error', reject);
      stream.on('data', ({events}) => {
        if (events.length === 0) return;
        resolve(events);
        stream.removeAllListeners('error');
        stream.on('error', () => {});  // of the cancellation
        stream.cancel();
      });
    });
  }

  // The ranged calls of MmuService, to the end of the range.
  async ranged(method, vm, startGfn, endGfn, more = {}) {
    let next = startGfn;
    while (next < endGfn) {
      const answer = await this.call('MmuService', method, {
        vm,
        range: {startGfn: next, endGfn},
        ...more,
      });
      next = Number(answer.nextGfn);
    }
  }

  async makeVm(id, slots, vcpuCount = 1) {
    const vm = `vms/${id}`;
    await this.call('VmService', 'createVm', {vmId: id, vm: {vcpuCount}});
    for (const [memslotId, baseGfn, frameCount, more] of slots) {
      await this.call('MemslotService', 'createMemslot', {
        parent: vm,
        memslotId,
        memslot: {baseGfn, frameCount, ...more},
      });
    }
    return vm;
  }

  loadTouchGuest(vm, startGfn, endGfn, more = {}, vcpu = 0) {
    return this.call('VcpuService', 'loadGuest', {
      name: `${vm}/vcpus/${vcpu}`,
      guest: {touch: {range: {startGfn, endGfn}, write: true, ...more}},
    });
  }

  async runTouchGuest(vm, startGfn, endGfn, more = {}) {
    await this.loadTouchGuest(vm, startGfn, endGfn, more);
    await this.call('VmService', 'startVm', {name: vm});
    await this.call('VcpuService', 'waitVcpu', {name: `${vm}/vcpus/0`});
    for (;;) {
      const {vm: {state}} = await this.call('VmService', 'getVm', {name: vm});
      if (state === 'STATE_STOPPED') return;
    }
  }

  // Lets the guest touch a frame whose access waits, and answers the access.
  async waitAt(vm, gfn) {
    await this.loadTouchGuest(vm, gfn, gfn + 1);
    await this.call('VmService', 'startVm', {name: vm});
    for (;;) {
      const {accesses} =
          await this.call('EventService', 'listWaitingAccesses', {vm});
      if (accesses.length > 0) return accesses[0];
    }
  }

  // Of processor time, so far.
  cpuSeconds() {
    const stat = fs.readFileSync(`/proc/${this.process.pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11]) + Number(fields[12])) / CLOCK_TICKS;
  }

  // Drains it, and answers its exit status.
  async stop() {
    for (const client of Object.values(this.clients)) client.close();
    this.clients = {};
    this.process.kill('SIGTERM');
    return await this.ended;
  }

  remove() {
    this.process.kill('SIGKILL');
    fs.rmSync(this.folder, {recursive: true, force: true});
  }

  #client(service) {
    this.clients[service] ??= new this.api[service](
        this.target, grpc.credentials.createInsecure());
    return this.clients[service];
  }
}

function loadApi() {
  const definition = protoLoader.loadSync(
      SERVICES.map((name) => `tdp/v1/${name}_service.proto`), {
        includeDirs: ['proto'],
        longs: String,
        enums: String,
        defaults: true,
        oneofs: true,
      });
  return grpc.loadPackageDefinition(definition).tdp.v1;
}

// From the line that says that it serves.
function readOrigin(stderr) {
  return new Promise((resolve, reject) => {
    let text = '';
    stderr.on('data', (chunk) => {
      text += chunk;
      const match = /web page on (http:\/\/[^/]+)\//.exec(text);
      if (match) resolve(match[1]);
    });
    stderr.on('end', () => reject(new Error(`the daemon said: ${text}`)));
  });
}

module.exports = {Daemon};
