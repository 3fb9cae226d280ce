// A client of npm's @grpc/grpc-js that loads proto/ at run time, and reads
// error details with the google.rpc messages of google-proto-files.
//
//   node node_client.js PROTO_FOLDER NPM_MODULES

'use strict';

const assert = require('assert').strict;
const path = require('path');
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');
const protobuf = require('protobufjs');

const [protoFolder, npmModules] = process.argv.slice(2);
const VM = 'vms/node';
const SLOT_FRAMES = 1024;
const MAPPED_FRAMES = 64;

function loadApi() {
  const services = ['event', 'guest_memory', 'info', 'memslot', 'mmu', 'stats',
                    'vcpu', 'vm'];
  const definition = protoLoader.loadSync(
      services.map((name) => `tdp/v1/${name}_service.proto`), {
        includeDirs: [protoFolder],
        longs: Number,
        enums: String,
        defaults: true,
        oneofs: true,
      });
  return grpc.loadPackageDefinition(definition).tdp.v1;
}

// google.rpc as the world knows it, not our own copy.
function loadGoogleRpc() {
  const root = new protobuf.Root();
  const files = path.join(npmModules, 'google-proto-files');
  root.resolvePath = (origin, target) =>
      target.startsWith('google/') ? path.join(files, target) : target;
  root.loadSync(['google/rpc/status.proto', 'google/rpc/error_details.proto']);
  return {
    Status: root.lookupType('google.rpc.Status'),
    ErrorInfo: root.lookupType('google.rpc.ErrorInfo'),
  };
}

const api = loadApi();
const rpc = loadGoogleRpc();

function connect(service) {
  return new api[service](`unix:${process.env.TDPD_SOCKET}`,
                          grpc.credentials.createInsecure());
}

const clients = {
  event: connect('EventService'),
  info: connect('InfoService'),
  memory: connect('GuestMemoryService'),
  memslot: connect('MemslotService'),
  mmu: connect('MmuService'),
  stats: connect('StatsService'),
  vcpu: connect('VcpuService'),
  vm: connect('VmService'),
};

function call(client, method, request) {
  return new Promise((resolve, reject) => {
    client[method](request, (error, response) => {
      if (error) {
        reject(error);
      } else {
        resolve(response);
      }
    });
  });
}

// Every message of a stream of responses.
function collect(stream) {
  return new Promise((resolve, reject) => {
    const messages = [];
    stream.on('data', (message) => messages.push(message));
    stream.on('error', reject);
    stream.on('end', () => resolve(messages));
  });
}

// The status code of a call that must fail, and its only ErrorInfo.
async function errorOf(promise) {
  let error = null;
  try {
    await promise;
  } catch (caught) {
    error = caught;
  }
  assert.notEqual(error, null, 'a call that must fail succeeded');
  const [bytes] = error.metadata.get('grpc-status-details-bin');
  assert.ok(bytes, `no details in ${error}`);
  const status = rpc.Status.decode(bytes);
  assert.equal(status.code, error.code);
  assert.equal(status.message, error.details);
  const infos = status.details.filter(
      (any) => any.type_url === 'type.googleapis.com/google.rpc.ErrorInfo');
  assert.equal(infos.length, 1);
  return {code: error.code, info: rpc.ErrorInfo.decode(infos[0].value)};
}

async function untilEnd(method, request) {
  const responses = [];
  const range = {...request.range};
  while (range.startGfn < range.endGfn) {
    const response = await call(clients.mmu, method, {...request, range});
    assert.ok(response.nextGfn > range.startGfn, 'no progress');
    range.startGfn = response.nextGfn;
    responses.push(response);
  }
  return responses;
}

function sum(responses, field) {
  return responses.reduce((total, response) => total + response[field], 0);
}

async function create() {
  const info = await call(clients.info, 'getInfo', {});
  assert.deepEqual(info.apiVersions, ['tdp.v1']);
  const {vm} = await call(clients.vm, 'createVm',
                          {vmId: 'node', vm: {vcpuCount: 1}});
  assert.equal(vm.name, VM);
  assert.equal(vm.state, 'STATE_CREATED');
  const {memslot} = await call(clients.memslot, 'createMemslot', {
    parent: VM,
    memslotId: 'ram',
    memslot: {frameCount: SLOT_FRAMES},
  });
  assert.equal(memslot.name, `${VM}/memslots/ram`);
}

async function checkErrors() {
  let error = await errorOf(call(clients.vm, 'getVm', {name: 'vms/none'}));
  assert.equal(error.code, grpc.status.NOT_FOUND);
  assert.equal(error.info.reason, 'RESOURCE_NOT_FOUND');
  assert.equal(error.info.domain, 'tdp.v1');
  assert.ok(Object.values(error.info.metadata).includes('vms/none'));

  error = await errorOf(call(clients.mmu, 'mapRange', {
    vm: VM,
    range: {startGfn: SLOT_FRAMES, endGfn: SLOT_FRAMES + 1},
  }));
  assert.equal(error.code, grpc.status.OUT_OF_RANGE);
  assert.equal(error.info.reason, 'GFN_NOT_BACKED');

  error = await errorOf(collect(clients.mmu.walkRange(
      {vm: VM, range: {startGfn: 9, endGfn: 3}})));
  assert.equal(error.code, grpc.status.INVALID_ARGUMENT);
  assert.equal(error.info.reason, 'FIELD_INVALID');
}

async function mapWalkZap() {
  const mapped = await untilEnd('mapRange', {
    vm: VM,
    range: {startGfn: 0, endGfn: MAPPED_FRAMES},
    maxLevel: 'PAGE_LEVEL_4K',
    write: true,
  });
  assert.equal(sum(mapped, 'mappedFrameCount'), MAPPED_FRAMES);

  const {sptes} = await call(clients.mmu, 'walkGfn', {vm: VM, gfn: 5});
  assert.deepEqual(
      sptes.map((spte) => spte.level),
      ['PAGE_LEVEL_512G', 'PAGE_LEVEL_1G', 'PAGE_LEVEL_2M', 'PAGE_LEVEL_4K']);
  const leaf = sptes[3];
  assert.equal(leaf.baseGfn, 5);
  assert.ok(leaf.present && leaf.leaf);
  assert.deepEqual({...leaf.access}, {read: true, write: true});

  const batches = await collect(clients.mmu.walkRange({
    vm: VM,
    range: {startGfn: 0, endGfn: SLOT_FRAMES},
    leavesOnly: true,
    presentOnly: true,
  }));
  const gfns = batches.flatMap((batch) => batch.sptes.map((s) => s.baseGfn));
  assert.deepEqual(gfns, Array.from({length: MAPPED_FRAMES}, (_, i) => i));

  const zapped = await untilEnd(
      'zapRange', {vm: VM, range: {startGfn: 8, endGfn: 24}});
  assert.equal(sum(zapped, 'zappedFrameCount'), 16);
  const {stats} = await call(clients.stats, 'getVmStats', {vm: VM});
  assert.equal(stats.leaf_4kCount, MAPPED_FRAMES - 16);
}

async function runGuest() {
  const vcpuName = `${VM}/vcpus/0`;
  await call(clients.vcpu, 'loadGuest', {
    name: vcpuName,
    guest: {touch: {range: {startGfn: 0, endGfn: MAPPED_FRAMES}, write: true}},
  });
  await call(clients.vm, 'startVm', {name: VM});
  const {vcpu} = await call(clients.vcpu, 'waitVcpu', {name: vcpuName});
  assert.equal(vcpu.state, 'STATE_EXITED');
  assert.equal(vcpu.touchedFrameCount, MAPPED_FRAMES);
  const {stats} = await call(clients.stats, 'getVmStats', {vm: VM});
  assert.equal(stats.faultFixedCount, 16);
}

async function writeAndRead() {
  const gpa = 1 << 20;
  const data = Buffer.alloc((1 << 20) + 777, 'tdpd speaks to node. ');
  const written = await new Promise((resolve, reject) => {
    const stream = clients.memory.writeGuestMemory(
        (error, response) => error ? reject(error) : resolve(response));
    const chunk = 1 << 19;
    for (let offset = 0; offset < data.length; offset += chunk) {
      stream.write({
        vm: offset === 0 ? VM : '',
        gpa: gpa + offset,
        data: data.subarray(offset, offset + chunk),
      });
    }
    stream.end();
  });
  assert.equal(written.writtenBytes, data.length);
  const chunks = await collect(
      clients.memory.readGuestMemory({vm: VM, gpa, sizeBytes: data.length}));
  assert.ok(Buffer.concat(chunks.map((c) => c.data)).equals(data));
}

async function main() {
  await create();
  const events = collect(
      clients.event.watchEvents({vm: VM, startSequence: 1}));
  await checkErrors();
  await mapWalkZap();
  await runGuest();
  await writeAndRead();
  await call(clients.vm, 'deleteVm', {name: VM});
  const {vms} = await call(clients.vm, 'listVms', {});
  assert.deepEqual(vms, []);

  // The stream ends by itself, with OK, once the VM is deleted.
  const log = (await events).flatMap((response) => response.events);
  assert.deepEqual(log.map((e) => e.sequence), log.map((_, i) => i + 1));
  assert.ok(log.some((e) => e.vcpuExited?.reason === 'HLT'));
  assert.ok(log.some((e) => e.vmStateChanged?.newState === 'STATE_RUNNING'));
  console.log('Node: every value as it should be');
}

main().then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
