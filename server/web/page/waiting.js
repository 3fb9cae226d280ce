// The accesses of a VM that wait for a verdict, and how to give one: this page
// only reads.

import * as api from './api.js';
import {card, element, replaceChildren, setText} from './dom.js';
import {accessText, formatHex, words} from './format.js';

export class WaitingAccesses {
  constructor(vm, onFrame) {
    this.vm = vm;
    this.onFrame = onFrame;
    this.accesses = [];
    this.signature = '[]';
    this.isOld = true;
    this.note = element('p', {className: 'note', role: 'status'},
                        'No vCPU waits.');
    this.body = element('tbody');
    this.table = element(
        'table', {className: 'waiting', hidden: true},
        element('thead', {},
                element('tr', {}, ['Id', 'Frame', 'Access', 'vCPU', 'Cause']
                    .map((text) => element('th', {scope: 'col'}, text)))),
        this.body);
    this.element = card('Waiting accesses', {className: 'waiting-card'},
                        this.note, this.table);
  }

  // If it is old; so it stays if there is no answer.
  async refresh() {
    if (!this.isOld) return;
    const accesses = await api.list(
        'EventService', 'ListWaitingAccesses', {vm: this.vm}, 'accesses');
    this.isOld = false;
    const signature = JSON.stringify(accesses);
    if (signature === this.signature) return;
    this.signature = signature;
    this.accesses = accesses;
    this.table.hidden = accesses.length === 0;
    const vm = this.vm.replace('vms/', '');
    setText(this.note, accesses.length === 0 ? 'No vCPU waits.' :
        `To decide: tdpctl resolve ${vm} ${accesses[0].accessId} grant` +
            ' (or retry, kill)');
    replaceChildren(this.body, accesses.map((access) => this.#row(access)));
  }

  #row({accessId, gfn, access, vcpuIndex, cause, detail}) {
    return element(
        'tr', {dataset: {id: accessId}},
        element('td', {className: 'num'}, accessId),
        element('td', {}, element('button', {
                  type: 'button',
                  className: 'link mono',
                  onclick: () => this.onFrame(Number(gfn)),
                }, formatHex(Number(gfn)))),
        element('td', {className: 'mono'}, accessText(access)),
        element('td', {className: 'num'}, String(vcpuIndex)),
        element('td', {}, words(cause, 'CAUSE_'),
                detail ? element('span', {className: 'dim'}, ` ${detail}`) :
                         null));
  }

  snapshot() {
    return [...this.body.children].map(
        (row) => [...row.children].map((cell) => cell.textContent));
  }
}
