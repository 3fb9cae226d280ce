// The 64 bits of a page-table entry in EPT format, as engine/paging/spte.h has
// them.

const LEVELS = {
  PAGE_LEVEL_4K: 1,
  PAGE_LEVEL_2M: 2,
  PAGE_LEVEL_1G: 3,
  PAGE_LEVEL_512G: 4,
  PAGE_LEVEL_256T: 5,
};
const ENTRIES_PER_TABLE = 512;
const MEMORY_TYPES = {
  0: 'uncacheable',
  1: 'write combining',
  4: 'write through',
  5: 'write protected',
  6: 'write back',
};

const yesNo = (yes, no) => (value) => value ? yes : no;
const fixed = (text) => () => text;

// From the highest bit down: every bit is in exactly one field. `leaf` and
// `table` are what the field means there.
const FIELDS = [
  {
    high: 63,
    name: 'SUPPRESS_VE',
    meaning: yesNo('no #VE is raised', 'raises #VE'),
  },
  {high: 62, low: 59, name: 'ignored', meaning: fixed('not used')},
  {
    high: 58,
    name: 'MMU_WRITABLE',
    leaf: yesNo('may become writable', 'no write is granted'),
  },
  {
    high: 57,
    name: 'HOST_WRITABLE',
    leaf: yesNo('memslot is writable', 'memslot is read-only'),
  },
  {high: 56, low: 52, name: 'ignored', meaning: fixed('not used')},
  {
    high: 51,
    low: 12,
    name: 'PFN',
    leaf: fixed('backing frame'),
    table: fixed('the lower table'),
    hex: true,
  },
  {
    high: 11,
    name: 'MMU_PRESENT',
    meaning: yesNo('backed by memory', 'nothing is mapped'),
  },
  {high: 10, name: 'ignored', meaning: fixed('not used')},
  {
    high: 9,
    name: 'D',
    leaf: yesNo('dirty', 'clean'),
  },
  {
    high: 8,
    name: 'A',
    leaf: yesNo('accessed', 'old: a touch faults'),
  },
  {
    high: 7,
    name: 'PS',
    leaf: yesNo('maps a huge page', 'maps a 4K page'),
    table: yesNo('maps a huge page', 'points to a table'),
  },
  {
    high: 6,
    name: 'IPAT',
    leaf: yesNo('guest PAT ignored', 'guest PAT counts'),
  },
  {
    high: 5,
    low: 3,
    name: 'memory type',
    leaf: (value) => MEMORY_TYPES[value] ?? 'reserved',
  },
  {high: 2, name: 'X', meaning: yesNo('fetches allowed', 'no fetches')},
  {high: 1, name: 'W', meaning: yesNo('writes allowed', 'writes fault')},
  {high: 0, name: 'R', meaning: yesNo('reads allowed', 'reads fault')},
];

export function levelOf(spte) {
  return LEVELS[spte.level] ?? 0;
}

export function levelName(spte) {
  return spte.level.replace('PAGE_LEVEL_', '');
}

// Where in its table the entry is.
export function indexInTable(spte) {
  const covered = ENTRIES_PER_TABLE ** (levelOf(spte) - 1);
  return Math.floor(Number(spte.baseGfn) / covered) % ENTRIES_PER_TABLE;
}

export function stateOf(spte) {
  if (spte.frozen) return 'frozen';
  if (!spte.present) return 'not present';
  return spte.leaf ? 'leaf' : 'table';
}

// [{bits, name, value, text, meaning}] from bit 63 down. In a frozen entry only
// the whole value means something.
export function decode(spte) {
  const raw = BigInt(spte.raw);
  const state = stateOf(spte);
  return FIELDS.map(({high, low = high, name, hex, meaning, leaf, table}) => {
    const value =
        Number(BigInt.asUintN(high - low + 1, raw >> BigInt(low)));
    const explain = {leaf: leaf ?? meaning, table: table ?? meaning}[state] ??
        (state === 'not present' ? meaning : undefined);
    return {
      high,
      low,
      bits: high === low ? String(high) : `${high}:${low}`,
      name,
      value,
      text: hex ? `0x${value.toString(16)}` : String(value),
      meaning: explain ? explain(value) : '',
    };
  });
}
