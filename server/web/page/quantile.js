// Quantiles of histograms whose buckets are known only.

// `buckets`: [{le, count}] with cumulative counts, by ascending upper bound in
// seconds. The answer lies in the right bucket; within it the values are taken
// to be spread evenly. null if there are none.
export function quantile(buckets, share) {
  const total = Number(buckets.at(-1)?.count ?? 0);
  if (total === 0) return null;
  const wanted = share * total;
  let below = 0;
  let lower = 0;
  for (const {le, count} of buckets) {
    const upper = Number(le);
    if (Number(count) >= wanted) {
      if (!Number.isFinite(upper)) return lower;
      const inside = Number(count) - below;
      return lower + (upper - lower) * (wanted - below) / (inside || 1);
    }
    below = Number(count);
    if (Number.isFinite(upper)) lower = upper;
  }
  return lower;
}

// Of counts whose i-th bucket ends at 2^i microseconds.
export function bucketsOfLog2(counts) {
  let sum = 0;
  return counts.map(
      (count, i) => ({le: 2 ** i * 1e-6, count: sum += Number(count)}));
}

// What was added between two readings of cumulative buckets.
export function since(now, before) {
  if (!before || before.length !== now.length) return now;
  return now.map(({le, count}, i) =>
      ({le, count: Number(count) - Number(before[i].count)}));
}
