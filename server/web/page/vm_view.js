// The page of one VM. Asks only for what can have changed: the map is drawn
// again when the counters say that an entry has changed.

import * as api from './api.js';
import {element, setText} from './dom.js';
import {Events} from './events.js';
import {formatFrames, formatPercent, formatRate, words} from './format.js';
import {Heatmap} from './heatmap.js';
import {VmCharts} from './vm_charts.js';
import {changeMark, dirtyFrames, mappedFrames, overview, slotFrames} from './vm_figures.js';
import {Walk} from './walk.js';
import {WaitingAccesses} from './waiting.js';

const SLOW_MS = 5000;       // what changes seldom, or costs the daemon more
const DIRTY_CELLS = 256;    // for the figure about the whole VM

export class VmView {
  // `wake()`: look again at once.
  constructor(name, wake) {
    this.name = name;
    this.wake = wake;
    this.id = name.replace('vms/', '');
    this.mark = null;       // of the last statistics; see changeMark()
    this.mapIsOld = false;
    this.slowAt = -Infinity;
    this.dirtyMark = null;
    this.slots = null;
    this.walk = new Walk(name);
    this.map = new Heatmap(name, {
      onPick: (gfn) => this.#guard(this.walk.show(gfn)),
      onView: () => this.#guard(this.map.refresh()),
    });
    const goTo = (gfn) => this.map.goTo(gfn);
    this.events = new Events(name, goTo);
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
    promise.catch(() => this.wake());
  }

  async refresh() {
    const first = this.slots === null;
    if (first) await Promise.all([this.#refreshVm(), this.#refreshSlots()]);
    const [{stats}, kinds] = await Promise.all([
      api.call('StatsService', 'GetVmStats', {vm: this.name}),
      this.events.refresh(),
    ]);
    if (kinds.has('vmStateChanged') && !first) await this.#refreshVm();
    if (kinds.has('memslotChanged') && !first) await this.#refreshSlots();
    this.charts.addStats(stats);
    this.#showStats(stats);
    const mark = changeMark(stats);
    if (mark !== this.mark || kinds.has('memslotChanged')) {
      this.mark = mark;
      this.mapIsOld = true;
      await Promise.all([this.waiting.refresh(), this.walk.refresh()]);
    }
    // A sweep that is under way ends first, so that a guest which never rests
    // cannot keep the rest of the map from being shown.
    if (this.mapIsOld && !this.map.needsMore) {
      this.mapIsOld = false;
      this.map.restart();
    }
    await this.map.refresh();
    if (performance.now() - this.slowAt > SLOW_MS) await this.#refreshSlow();
  }

  async #refreshSlow() {
    this.slowAt = performance.now();
    const [calls, {workingSet}] =
        await Promise.all([api.getCharts(), api.getWorkingSet(this.name)]);
    this.charts.setCalls(calls);
    this.charts.setWorkingSet(workingSet);
    if (this.mark !== this.dirtyMark) {
      this.dirtyMark = this.mark;
      const overviews = [];
      for (const slot of this.slots) {
        overviews.push(await overview(this.name, slot, DIRTY_CELLS));
      }
      setText(this.figures.dirty, formatFrames(dirtyFrames(overviews)));
    }
  }

  async #refreshVm() {
    const {vm} = await api.call('VmService', 'GetVm', {name: this.name});
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
