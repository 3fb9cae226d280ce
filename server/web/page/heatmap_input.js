// Wheel, drag, click and keys on the map.

const DRAG_PIXELS = 4;
const WHEEL_STEP = 60;  // of what a notch of a wheel gives, most give 100
const ROW_PIXELS = 7;

// Returns what undoes it.
export function bindInput(canvas, map) {
  const abort = new AbortController();
  const on = (type, listener, options = {}) => canvas.addEventListener(
      type, listener, {...options, signal: abort.signal});

  let wheel = 0;
  on('wheel', (event) => {
    if (event.ctrlKey) return;  // the browser's own zoom
    event.preventDefault();
    wheel += event.deltaY;
    if (Math.abs(wheel) < WHEEL_STEP) return;
    const factor = wheel > 0 ? 2 : 0.5;
    wheel = 0;
    const gfn = map.gfnAt(event.offsetX, event.offsetY);
    if (gfn >= 0) map.zoomBy(factor, gfn);
  }, {passive: false});

  let drag = null;
  on('pointerdown', (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    drag = {x: event.clientX, y: event.clientY, rows: 0, moved: false};
  });
  on('pointermove', (event) => {
    if (!drag) {
      const gfn = map.gfnAt(event.offsetX, event.offsetY);
      return map.showTip(gfn, event.offsetX, event.offsetY);
    }
    const y = event.clientY - drag.y;
    drag.moved ||= Math.hypot(event.clientX - drag.x, y) > DRAG_PIXELS;
    if (!drag.moved) return;
    map.showTip(-1);
    const rows = -Math.round(y / ROW_PIXELS);
    map.scrollRows(rows - drag.rows);
    drag.rows = rows;
  });
  on('pointerup', (event) => {
    if (drag && !drag.moved) {
      const gfn = map.gfnAt(event.offsetX, event.offsetY);
      if (gfn >= 0) map.pick(gfn);
    }
    drag = null;
  });
  on('pointercancel', () => drag = null);
  on('pointerleave', () => map.showTip(-1));
  on('dblclick', (event) => {
    const gfn = map.gfnAt(event.offsetX, event.offsetY);
    if (gfn >= 0) map.zoomBy(0.25, gfn);
  });

  on('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !map.viewport) return;
    const {columns, rows} = map.viewport;
    const actions = {
      ArrowLeft: () => map.moveCursor(-1),
      ArrowRight: () => map.moveCursor(1),
      ArrowUp: () => map.moveCursor(-columns),
      ArrowDown: () => map.moveCursor(columns),
      PageUp: () => map.scrollRows(-rows),
      PageDown: () => map.scrollRows(rows),
      Home: () => map.home(),
      Enter: () => map.pick(),
      '+': () => map.zoomBy(0.5),
      '=': () => map.zoomBy(0.5),
      '-': () => map.zoomBy(2),
    };
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
  return () => abort.abort();
}
