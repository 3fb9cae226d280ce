// Numbers, sizes, addresses and times as people read them.

const FRAME_BYTES = 4096;
const BYTE_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];

const grouped = new Intl.NumberFormat('en-US');

// Three digits that matter: 0.12, 1.23, 12.3, 123.
function threeDigits(value) {
  if (value >= 99.95 || Number.isInteger(value)) {
    return String(Math.round(value));
  }
  return value.toFixed(value >= 9.995 ? 1 : 2);
}

export function formatCount(value) {
  return grouped.format(Math.round(value));
}

export function formatBytes(bytes) {
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && unit < BYTE_UNITS.length - 1) {
    value /= 1024;
    ++unit;
  }
  return `${threeDigits(value)} ${BYTE_UNITS[unit]}`;
}

export function formatFrames(frames) {
  return formatBytes(frames * FRAME_BYTES);
}

export function formatRate(perSecond) {
  if (perSecond === null) return '–';
  const value = perSecond < 10 && perSecond > 0 ? threeDigits(perSecond) :
                                                  formatCount(perSecond);
  return `${value}/s`;
}

export function formatSeconds(seconds) {
  if (seconds === null || !Number.isFinite(seconds)) return '–';
  if (seconds === 0) return '0 s';
  if (seconds < 1e-3) return `${threeDigits(seconds * 1e6)} µs`;
  if (seconds < 1) return `${threeDigits(seconds * 1e3)} ms`;
  if (seconds < 120) return `${threeDigits(seconds)} s`;
  if (seconds < 7200) return `${threeDigits(seconds / 60)} min`;
  return `${threeDigits(seconds / 3600)} h`;
}

// Frame numbers fit a double: guest physical addresses have at most 57 bits.
export function formatHex(value) {
  return `0x${value.toString(16)}`;
}

export function formatGpa(gfn) {
  return formatHex(BigInt(gfn) * BigInt(FRAME_BYTES));
}

// 16 hex digits in groups of four.
export function formatRaw(raw) {
  return raw.toString(16).padStart(16, '0').match(/.{4}/g).join(' ');
}

export function formatPercent(share) {
  if (share > 0 && share < 0.01) return '<1 %';
  if (share < 1 && share > 0.99) return '>99 %';
  return `${Math.round(share * 100)} %`;
}

export function formatTime(rfc3339) {
  const time = new Date(rfc3339);
  if (Number.isNaN(time.getTime())) return rfc3339;
  const two = (value) => String(value).padStart(2, '0');
  return `${two(time.getHours())}:${two(time.getMinutes())}:` +
      `${two(time.getSeconds())}.` +
      String(time.getMilliseconds()).padStart(3, '0');
}

// "3.5s", as proto3 JSON writes a Duration.
export function parseDuration(text) {
  return text ? Number.parseFloat(text) : 0;
}

// STATE_RUNNING -> "running", FAULT_POLICY_MAP -> "fault policy map".
export function words(enumName, prefix = '') {
  return (enumName ?? '')
      .replace(prefix, '')
      .replaceAll('_', ' ')
      .toLowerCase();
}

export function accessText(access) {
  return `${access?.read ? 'r' : '-'}${access?.write ? 'w' : '-'}`;
}
