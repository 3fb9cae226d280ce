// Runs a task again and again: only while the tab is seen, never twice at a
// time, slower while the daemon does not answer.

const RETRY_MS = 2000;

export class Poller {
  // `task` may be async. `onDone` is called after it, or `onError` with what it
  // throws, which answers whether to go on. Neither is after stop().
  constructor(task, intervalMs, {onDone, onError}) {
    this.task = task;
    this.intervalMs = intervalMs;
    this.onDone = onDone;
    this.onError = onError;
    this.paused = false;
    this.running = false;
    this.wanted = false;
    this.stopped = false;
    this.timer = 0;
    this.onVisible = () => this.runNow();
    document.addEventListener('visibilitychange', this.onVisible);
    this.runNow();
  }

  setPaused(paused) {
    this.paused = paused;
    if (!paused) this.runNow();
  }

  // At once, or right after the run that is under way.
  async runNow() {
    if (this.stopped || this.paused || document.hidden) return;
    if (this.running) {
      this.wanted = true;
      return;
    }
    clearTimeout(this.timer);
    this.running = true;
    this.wanted = false;
    const start = performance.now();
    let delay = this.intervalMs;
    try {
      await this.task();
      if (this.stopped) return;
      this.onDone();
    } catch (error) {
      if (this.stopped) return;
      if (!this.onError(error)) this.stop();
      delay = RETRY_MS;
      this.wanted = false;
    }
    this.running = false;
    if (this.stopped) return;
    const used = performance.now() - start;
    this.timer = setTimeout(
        () => this.runNow(), this.wanted ? 0 : Math.max(100, delay - used));
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.timer);
    document.removeEventListener('visibilitychange', this.onVisible);
  }
}
