// Starts the page: the token, the way from the list to a VM and back, and what
// is said when the daemon does not answer.

import * as api from './api.js';
import {element, replaceChildren, setText} from './dom.js';
import {Poller} from './poller.js';
import {VmList} from './vm_list.js';
import {VmView} from './vm_view.js';

const LIST_MS = 2000;
const VM_MS = 1000;

const main = document.getElementById('main');
const status = document.getElementById('status');
const banner = document.getElementById('banner');
const crumb = document.getElementById('crumb');
const pause = document.getElementById('pause');

let view = null;
let poller = null;
let paused = false;

const VM_ROUTE = /^#\/(vms\/[a-z0-9-]+)$/;

function open() {
  poller?.stop();
  view?.stop();
  banner.hidden = true;
  main.classList.remove('stale');
  const name = VM_ROUTE.exec(location.hash)?.[1];
  setText(crumb, name ? name.replace('vms/', '') : '');
  document.title = name ? `${crumb.textContent} – tdpd` : 'tdpd';
  const opened = name ?
      new VmView(name, {
        onFailure: () => poller.runNow(),
        onOther: () => {
          if (view === opened) open();
        },
      }) :
      new VmList();
  view = opened;
  replaceChildren(main, view.element);
  setStatus('connecting');
  poller = new Poller(
      () => opened.refresh(), name ? VM_MS : LIST_MS, {onDone, onError});
  poller.setPaused(paused);
}

function onDone() {
  banner.hidden = true;
  main.classList.remove('stale');
  setStatus('live');
}

// Whether it makes sense to ask again.
function onError(error) {
  if (error.unauthorized) {
    api.forgetToken();
    askForToken('The daemon does not accept this page’s token. It makes a ' +
                'new one when its token file is gone.');
    return false;
  }
  if (error.notFound && view instanceof VmView) {
    setStatus('deleted');
    showBanner(`The VM ${view.id} does not exist: it was deleted, or the ` +
               'daemon was restarted. Below is what was seen last.');
    return false;
  }
  if (error.connectionLost) {
    setStatus('lost');
    showBanner('The daemon does not answer. Asking again every 2 s. ' +
               'Is it running? systemctl status tdpd');
    return true;
  }
  setStatus('error');
  showBanner(`The daemon refused a request: ${error.message}`);
  if (!(error instanceof api.ApiError)) console.error(error);
  return true;
}

function setStatus(state) {
  status.dataset.state = state;
  setText(status, {
    connecting: 'connecting',
    live: paused ? 'paused' : 'live',
    lost: 'connection lost',
    deleted: 'deleted',
    unauthorized: 'not authorized',
    error: 'error',
  }[state]);
}

function showBanner(text) {
  main.classList.add('stale');
  banner.hidden = false;
  const back = view instanceof VmView ?
      element('a', {href: '#/'}, 'All VMs') : null;
  replaceChildren(banner, element('span', {}, text), back);
}

// Without a token there is nothing to show but how to get one.
function askForToken(why) {
  poller?.stop();
  view?.stop();
  view = null;
  setStatus('unauthorized');
  banner.hidden = true;
  main.classList.remove('stale');
  const input = element('input', {
    id: 'token',
    type: 'password',
    autocomplete: 'off',
    placeholder: 'link or token',
  });
  const form = element(
      'form', {
        onsubmit: (event) => {
          event.preventDefault();
          location.hash = `#token=${input.value.trim().split('token=').pop()}`;
        },
      },
      element('label', {for: 'token'}, 'Or paste it here'), input,
      element('button', {type: 'submit'}, 'Open'));
  replaceChildren(
      main,
      element('section', {className: 'card gate', 'aria-label': 'Token'},
              element('h1', {}, 'This page needs a token'),
              element('p', {role: 'alert'}, why),
              element('p', {}, 'On the daemon’s machine, run ',
                      element('code', {}, 'tdpctl web'),
                      ' and open the link that it prints.'),
              form));
}

pause.addEventListener('click', () => {
  paused = !paused;
  pause.setAttribute('aria-pressed', String(paused));
  setText(pause, paused ? 'Resume' : 'Pause');
  poller?.setPaused(paused);
  if (status.dataset.state === 'live') setStatus('live');
});

function start() {
  if (api.takeToken()) {
    open();
  } else {
    askForToken('It shows what the memory of every VM does.');
  }
}

document.getElementById('skip').addEventListener('click', () => main.focus());
window.addEventListener('hashchange', start);

// What the page shows, for tests and for the curious. Read-only.
window.tdpd = {
  snapshot: () => ({
    status: status.textContent,
    banner: banner.hidden ? '' : banner.textContent,
    title: document.title,
    list: view instanceof VmList ? view.snapshot() : null,
    vm: view instanceof VmView ? view.snapshot() : null,
  }),
};

start();
