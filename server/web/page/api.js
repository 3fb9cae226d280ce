// Calls to the daemon. All of them only read.

const TOKEN_KEY = 'tdpd.token';
const TIMEOUT_MS = 5000;

// `status` is 0 if no answer came at all.
export class ApiError extends Error {
  constructor(status, {code = '', reason = '', message = ''} = {}) {
    super(message || reason || code || `HTTP status ${status}`);
    this.status = status;
    this.code = code;
    this.reason = reason;
  }

  get connectionLost() {
    return this.status === 0 || this.status === 503;
  }
  get unauthorized() {
    return this.status === 401;
  }
  get notFound() {
    return this.status === 404;
  }
}

// Takes the token out of the link that "tdpctl web" prints, so that it stays
// neither in the address bar nor in the history.
export function takeToken() {
  const match = /^#token=([\w-]+)/.exec(location.hash);
  if (match) {
    sessionStorage.setItem(TOKEN_KEY, match[1]);
    history.replaceState(null, '', `${location.pathname}#/`);
  }
  return sessionStorage.getItem(TOKEN_KEY);
}

export function forgetToken() {
  sessionStorage.removeItem(TOKEN_KEY);
}

async function get(path, query) {
  const search = new URLSearchParams(query);
  let response;
  try {
    response = await fetch(`/api/${path}?${search}`, {
      headers: {Authorization: `Bearer ${sessionStorage.getItem(TOKEN_KEY)}`},
      cache: 'no-store',
      credentials: 'omit',
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    if (response.ok) return await response.json();
  } catch (error) {
    throw new ApiError(0, {message: error.message});
  }
  const body = await response.json().catch(() => ({}));
  throw new ApiError(response.status, body.error);
}

export function call(service, method, request = {}) {
  return get(`rpc/${service}/${method}`, {request: JSON.stringify(request)});
}

// Every item of a paged list, at most `limit`.
export async function list(service, method, request, field, limit = 1000) {
  const items = [];
  let pageToken = '';
  do {
    const page = await call(service, method, {...request, pageToken});
    items.push(...page[field]);
    pageToken = page.nextPageToken;
  } while (pageToken && items.length < limit);
  return items;
}

export function getEvents(vm, startSequence) {
  return get('events', {vm, startSequence, max: 256});
}

export function getHeatmap(vm, firstGfn, frameCount, cellCount) {
  return get('heatmap', {vm, firstGfn, frameCount, cellCount});
}

export function getWorkingSet(vm) {
  return get('workingSet', {vm});
}

export function getCharts() {
  return get('charts', {});
}
