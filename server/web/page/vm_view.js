// The page of one VM. Asks only for what can have changed: the map is drawn
// again when the counters say that an entry has changed.

import * as api from './api.js';
import {element, setText} from './dom.js';
import {Events} from './events.js';
import {formatFrames, formatPercent, formatRate, words} from './format.js';
import {Heatmap} from './heatmap.js';
import {VmCharts} from './vm_charts.js';
import {changeMark, mappedFrames, Overview, slotFrames} from './vm_figures.js';
import {Walk} from './walk.js';
import {WaitingAccesses} from './waiting.js';

const SLOW_MS = 5000;       // what changes seldom, or costs the daemon more
const DIRTY_CELLS = 256;    // a memslot, for the figure about the whole VM

export class VmView {
  // `onFailure()`: something could not be shown; look again at once.
  // `onOther()`: the name is that of another VM now, which needs a new view.
  constructor(name, {onFailure, onOther}) {
    this.name = name;
    this.onFailure = onFailure;
    this.onOther = onOther;
    this.createTime = null;
    this.id = name.replace('vms/', '');
    this.mark = null;       // of the last statistics; see changeMark()
    this.slots = null;
    // What is old stays so until it has been read.
    this.slotsAreOld = true;
    this.mapIsOld = false;
    this.dirtyIsOld = true;
    this.slowAt = -Infinity;
    this.overview = new Overview(name);
    this.walk = new Walk(name);
    this.map = new Heatmap(name, {
      onPick: (gfn) => this.#guard(this.walk.show(gfn)),
      onView: () => this.#guard(this.map.refresh()),
    });
    const goTo = (gfn) => this.map.goTo(gfn);
    this.events = new Events(name, {
      onFrame: goTo,
      onEvent: (kind) => this.slotsAreOld ||= kind === 'memslotChanged',
      onGap: () => this.slotsAreOld = true,
    });
    this.waiting = new WaitingAccesses(name, goTo);
    this.charts = new VmCharts();
    this.figures = Object.fromEntries(
        ['memory', 'mapped', 'faults', 'dirty', 'tables', 'waiting'].map(
            (key) => [key, element('dd', {className: 'num'}, '–')]));
    this.state = element('span', {className: 'tag'});
    this.about = element('span', {className: 'dim'});
    this.element = element(
        'div', {className: 'vm'},
        element(
            'header', {className: 'vm-head'},
            element('h1', {}, this.id), this.state, this.about,
            element('dl', {className: 'figures'},
                    Object.entries(this.figures).map(
                        ([key, value]) => element(
                            'div', {}, element('dt', {}, key), value)))),
        element('div', {className: 'columns'},
                element('div', {className: 'column'}, this.map.element,
                        this.charts.element),
                element('div', {className: 'column'}, this.walk.element,
                        this.waiting.element, this.events.element)));
  }

  // Calls that are not part of refresh(): the next refresh says what is wrong.
  #guard(promise) {
    promise.catch(() => this.onFailure());
  }

  async refresh() {
    this.createTime ??= (await this.#getVm()).createTime;
    // First, so that all that is read later is as new as the events say.
    if (!await this.#refreshEvents()) return this.onOther();
    const [vm, {stats}] = await Promise.all([
      this.#getVm(),
      api.call('StatsService', 'GetVmStats', {vm: this.name}),
    ]);
    if (vm.createTime !== this.createTime) return this.onOther();
    this.#showVm(vm);
    const mark = changeMark(stats);
    if (mark !== this.mark || this.slotsAreOld) {
      this.mark = mark;
      this.mapIsOld = true;
      this.dirtyIsOld = true;
      this.walk.markOld();
      this.waiting.isOld = true;
    }
    if (this.slotsAreOld) await this.#refreshSlots();
    this.charts.addStats(stats);
    this.#showStats(stats);
    await Promise.all([this.waiting.refresh(), this.walk.refresh()]);
    // A sweep that is under way ends first, so that a guest which never rests
    // cannot keep the rest of the map from being shown.
    if (this.mapIsOld && !this.map.needsMore) {
      this.mapIsOld = false;
      this.map.restart();
    }
    await this.map.refresh();
    if (performance.now() - this.slowAt > SLOW_MS) await this.#refreshSlow();
    await this.overview.refresh();
    setText(this.figures.dirty, this.overview.dirtyText);
  }

  // Answers whether they are those of the VM that was shown so far: another
  // one has not had as many yet.
  async #refreshEvents() {
    const {nextSequence} = this.events;
    try {
      await this.events.refresh();
      return true;
    } catch (error) {
      if (error.status === 400 && nextSequence > 1) return false;
      throw error;
    }
  }

  async #refreshSlow() {
    const [calls, {workingSet}] =
        await Promise.all([api.getCharts(), api.getWorkingSet(this.name)]);
    this.charts.setCalls(calls);
    this.charts.setWorkingSet(workingSet);
    if (this.dirtyIsOld && !this.overview.needsMore) {
      this.dirtyIsOld = false;
      this.overview.restart(this.slots, DIRTY_CELLS);
    }
    this.slowAt = performance.now();
  }

  async #getVm() {
    const {vm} = await api.call('VmService', 'GetVm', {name: this.name});
    return vm;
  }

  #showVm(vm) {
    const state = words(vm.state, 'STATE_');
    this.state.className = `tag tag-${state}`;
    setText(this.state, state);
    setText(this.about,
            `${words(vm.hypervisor, 'HYPERVISOR_').toUpperCase()}, ` +
                `${vm.vcpuCount} vCPU${vm.vcpuCount === 1 ? '' : 's'}`);
  }

  async #refreshSlots() {
    this.slots = await api.list(
        'MemslotService', 'ListMemslots', {parent: this.name}, 'memslots');
    this.slotsAreOld = false;
    this.map.setSlots(this.slots);
  }

  #showStats(stats) {
    const memory = slotFrames(this.slots);
    const mapped = mappedFrames(stats);
    setText(this.figures.memory, formatFrames(memory));
    setText(this.figures.mapped, formatFrames(mapped) +
                (memory ? ` (${formatPercent(mapped / memory)})` : ''));
    setText(this.figures.tables, formatFrames(stats.pageTableBytes / 4096));
    setText(this.figures.waiting, stats.waitingAccessCount);
    this.figures.waiting.classList.toggle(
        'alert', stats.waitingAccessCount !== '0');
    const rates = this.charts.rates;
    setText(this.figures.faults, formatRate(rates ? rates.faults : null));
  }

  stop() {
    this.map.stop();
  }

  snapshot() {
    return {
      name: this.name,
      state: this.state.textContent,
      figures: Object.fromEntries(Object.entries(this.figures).map(
          ([key, value]) => [key, value.textContent])),
      map: this.map.snapshot(),
      walk: this.walk.snapshot(),
      charts: this.charts.snapshot(),
      events: this.events.snapshot(),
      waiting: this.waiting.snapshot(),
    };
  }
}
