// The events of a VM, newest first.

import * as api from './api.js';
import {card, element, setText} from './dom.js';
import {accessText, formatHex, formatTime, words} from './format.js';

const KEPT = 500;
const REQUESTS_PER_REFRESH = 4;

const KINDS = {
  vmStateChanged: {
    name: 'state',
    text: ({oldState, newState}) =>
        `${words(oldState, 'STATE_')} → ${words(newState, 'STATE_')}`,
  },
  memslotChanged: {
    name: 'memslot',
    text: ({memslot, deleted}) =>
        `${memslot.split('/').pop()} ${deleted ? 'deleted' : 'changed'}`,
  },
  unbackedAccess: {
    name: 'unbacked',
    text: ({gfn, access}) => `${accessText(access)} of frame ` +
        `${formatHex(Number(gfn))}, which no memslot backs`,
    gfn: ({gfn}) => Number(gfn),
  },
  accessWaiting: {
    name: 'waiting',
    text: ({accessId, gfn, access, vcpuIndex, cause}) =>
        `vCPU ${vcpuIndex} waits, ${accessText(access)} of frame ` +
        `${formatHex(Number(gfn))}: ${words(cause, 'CAUSE_')} (id ${accessId})`,
    gfn: ({gfn}) => Number(gfn),
  },
  vcpuExited: {
    name: 'exit',
    text: ({vcpuIndex, reason}) => `vCPU ${vcpuIndex} exited: ${reason}`,
  },
};

export class Events {
  // `onFrame(gfn)`: somebody wants to see a frame that an event names.
  // `onEvent(kind)`: an event is new. `onGap()`: events have been lost.
  constructor(vm, {onFrame, onEvent, onGap}) {
    this.vm = vm;
    this.onFrame = onFrame;
    this.onEvent = onEvent;
    this.onGap = onGap;
    this.nextSequence = 1;
    this.events = [];
    this.kind = '';
    this.text = '';
    this.list = element('ol', {className: 'events', tabindex: 0,
                               'aria-label': 'Events, newest first'});
    this.gap = element('p', {className: 'warning', role: 'status',
                             hidden: true});
    this.empty = element('p', {className: 'note'}, 'No events yet.');
    this.element = card(
        'Events', {
          className: 'events-card',
          tools: [
            element('select', {
              className: 'push',
              'aria-label': 'Kind of event',
              onchange: (event) => {
                this.kind = event.target.value;
                this.#render();
              },
            }, element('option', {value: ''}, 'all kinds'),
            Object.entries(KINDS).map(
                ([kind, {name}]) => element('option', {value: kind}, name))),
            element('input', {
              type: 'search',
              placeholder: 'Filter',
              'aria-label': 'Filter events by text',
              oninput: (event) => {
                this.text = event.target.value.toLowerCase();
                this.#render();
              },
            }),
          ],
        },
        this.gap, this.empty, this.list);
  }

  async refresh() {
    for (let i = 0; i < REQUESTS_PER_REFRESH; ++i) {
      const {events, nextSequence, truncated} =
          await api.getEvents(this.vm, this.nextSequence);
      if (truncated) {
        this.#showGap(events);
        this.onGap();
      }
      this.nextSequence = Number(nextSequence);
      for (const event of events) {
        const kind = Object.keys(KINDS).find((key) => event[key]);
        this.#add({sequence: Number(event.sequence), kind,
                   time: event.eventTime, detail: event[kind]});
        this.onEvent(kind);
      }
      if (events.length === 0) break;
    }
  }

  #showGap(events) {
    const first = events[0] ? Number(events[0].sequence) : this.nextSequence;
    this.gap.hidden = false;
    setText(this.gap,
            `Older events are no longer kept: the list starts again at ` +
                `number ${first}.`);
  }

  #add(event) {
    event.words = KINDS[event.kind]?.text(event.detail) ?? 'unknown event';
    this.events.unshift(event);
    this.empty.hidden = true;
    if (this.#matches(event)) this.list.prepend(this.#row(event));
    while (this.events.length > KEPT) {
      const {sequence} = this.events.pop();
      const last = this.list.lastElementChild;
      if (last?.dataset.sequence === String(sequence)) last.remove();
    }
  }

  #matches({kind, words}) {
    return (!this.kind || kind === this.kind) &&
        (!this.text || words.toLowerCase().includes(this.text));
  }

  #row({sequence, kind, time, detail, words: text}) {
    const gfn = KINDS[kind]?.gfn?.(detail);
    const what = gfn === undefined ? element('span', {}, text) :
        element('button', {type: 'button', className: 'link',
                           onclick: () => this.onFrame(gfn)}, text);
    return element(
        'li', {dataset: {sequence: String(sequence), kind}},
        element('time', {className: 'mono dim', datetime: time},
                formatTime(time)),
        element('span', {className: `tag tag-${KINDS[kind]?.name}`},
                KINDS[kind]?.name ?? 'unknown'),
        what);
  }

  #render() {
    this.list.replaceChildren(
        ...this.events.filter((event) => this.#matches(event))
            .map((event) => this.#row(event)));
  }

  snapshot() {
    return {
      gap: this.gap.hidden ? '' : this.gap.textContent,
      nextSequence: this.nextSequence,
      rows: [...this.list.children].map((row) => ({
        sequence: Number(row.dataset.sequence),
        kind: row.dataset.kind,
        text: row.lastElementChild.textContent,
      })),
    };
  }
}
