// The charts of a VM: faults, dirtied frames, fault latency, working set, lock
// hand-overs, and the latency of the daemon's calls.

import {BarChart, LineChart} from './charts.js';
import {card, element} from './dom.js';
import {formatCount, formatFrames, formatRate, formatSeconds, parseDuration} from './format.js';
import {bucketsOfLog2, quantile, since} from './quantile.js';

const CALL_ROWS = 6;
const AGE_ROWS = 10;

export class VmCharts {
  constructor() {
    this.faults = new LineChart('Faults', formatRate, '');
    this.dirtied = new LineChart(
        'Dirty rate', formatRate,
        'First writes to write-protected frames');
    this.latency = new LineChart(
        'Fault latency, p99', formatSeconds, 'From the event to the wake');
    this.locks = new LineChart(
        'Lock holds', formatSeconds,
        'Mean of the times that one thread held the tables against all others');
    this.workingSet = new BarChart(
        'Working set by age', ['Idle for', '', 'Memory'], 'No estimate yet');
    this.calls = new BarChart(
        'Call latency', ['Method', '', 'p50', 'p99'], 'No calls yet');
    this.charts = [this.faults, this.dirtied, this.latency, this.locks,
                   this.workingSet, this.calls];
    this.previous = null;
    this.element = card(
        'Charts', {className: 'charts-card'},
        element('div', {className: 'charts'},
                this.charts.map((chart) => chart.element)));
  }

  addStats(stats) {
    const now = reading(stats);
    const before = this.previous;
    this.previous = now;
    if (!before || now.time <= before.time) return;
    const seconds = now.time - before.time;
    const rate = (key) => Math.max(0, now[key] - before[key]) / seconds;
    this.faults.add(rate('faults'));
    this.faults.setNote(outcomeText(now, before, seconds));
    this.dirtied.add(rate('writeProtected'));
    const holds = now.holds - before.holds;
    this.locks.add(holds > 0 ? (now.heldNs - before.heldNs) / holds / 1e9 : null);
    this.locks.setNote(
        `exclusive, mean; ${formatRate(rate('holds'))}, ` +
        `long work let go ${formatRate(rate('yields'))}`);
    const recent = since(now.latency, before.latency);
    const slow = quantile(recent, 0.99);
    this.latency.add(slow);
    if (slow !== null) {
      this.latency.setNote(`p50 ${formatSeconds(quantile(recent, 0.5))}, ` +
                           'from the event to the wake');
    }
    this.rates = {faults: rate('faults'), dirtied: rate('writeProtected')};
  }

  setWorkingSet(workingSet) {
    if (!workingSet?.buckets?.length) {
      this.workingSet.set(
          [], '', 'Nobody measures it. To do so: tdpctl ws watch');
      return;
    }
    const ages = agesOf(workingSet.buckets);
    const highest = Math.max(...ages.map(({frames}) => frames), 1);
    this.workingSet.set(
        ages.map(({seconds, frames}) => ({
          label: `≥ ${formatSeconds(seconds)}`,
          share: frames / highest,
          texts: [formatFrames(frames)],
        })),
        formatFrames(ages.reduce((sum, {frames}) => sum + frames, 0)),
        'Memory by the time since its last use');
  }

  // As /api/charts answers.
  setCalls({upperBoundsSeconds, methods}) {
    const rows =
        methods.map(({service, method, count, cumulativeCounts}) => {
                 const buckets = cumulativeCounts.map((count, i) => ({
                   le: upperBoundsSeconds[i] ?? Infinity,
                   count: Number(count),
                 }));
                 return {
                   service,
                   method,
                   count: Number(count),
                   p50: quantile(buckets, 0.5),
                   p99: quantile(buckets, 0.99),
                 };
               })
            .sort((a, b) => b.count - a.count)
            .slice(0, CALL_ROWS);
    const log = (seconds) => Math.log10(Math.max(seconds, 1e-5) / 1e-5) / 6;
    const total = methods.reduce((sum, {count}) => sum + Number(count), 0);
    this.calls.set(
        rows.map(({service, method, p50, p99}) => ({
                   label: method,
                   title: `${service}.${method}`,
                   share: Math.min(1, log(p99)),
                   texts: [formatSeconds(p50), formatSeconds(p99)],
                 })),
        total ? `${formatCount(total)} calls` : '',
        total ? 'Since the daemon started; bars are p99, log scale' :
                'No calls by gRPC yet');
  }

  snapshot() {
    return this.charts.map((chart) => chart.snapshot());
  }
}

// A few rows that hold all frames: what is older than the last row's age is in
// the last row, and rows without frames behind the others are left out.
function agesOf(buckets) {
  const ages = [];
  for (const {minAge, frameCount} of buckets) {
    const frames = Number(frameCount);
    if (ages.length < AGE_ROWS) {
      ages.push({seconds: parseDuration(minAge), frames});
    } else {
      ages.at(-1).frames += frames;
    }
  }
  while (ages.length > 1 && ages.at(-1).frames === 0) ages.pop();
  return ages;
}

// The counters of VmStats that the charts use.
function reading(stats) {
  const outcomes = Object.fromEntries(
      stats.faultOutcomes.map((o) => [o.outcome, Number(o.faultCount)]));
  const counts = [];
  for (const {latencyUsLog2Counts} of stats.faultOutcomes) {
    latencyUsLog2Counts.forEach((count, i) => {
      counts[i] = (counts[i] ?? 0) + Number(count);
    });
  }
  return {
    time: new Date(stats.sampleTime).getTime() / 1000,
    faults: faultCount(stats),
    writeProtected: Number(stats.faultWriteProtectedCount),
    yields: Number(stats.yieldCount),
    holds: Number(stats.exclusiveHoldCount),
    heldNs: Number(stats.exclusiveHoldNs),
    outcomes,
    latency: bucketsOfLog2(Array.from(counts, (count) => count ?? 0)),
  };
}

export function faultCount(stats) {
  return stats.faultOutcomes.reduce((sum, o) => sum + Number(o.faultCount), 0);
}

function outcomeText(now, before, seconds) {
  const parts = [];
  for (const [outcome, count] of Object.entries(now.outcomes)) {
    const rate = (count - (before.outcomes[outcome] ?? 0)) / seconds;
    if (rate > 0) {
      parts.push(`${outcome.replaceAll('_', ' ')} ${formatRate(rate)}`);
    }
  }
  return parts.join(', ') || 'No faults in the last second';
}
