/**
 * The pad: a canvas that is drawn on with mouse, pen or finger, or by keyboard. It keeps the strokes in parts of its
 * side, dispatches "change" when they have changed, and "pendown" when a key puts the pen down.
 *
 * Keys: arrows move a cursor (with Shift in small steps), Space or Enter puts the pen down and lifts it, Escape lifts it,
 * Backspace takes the last stroke back, Delete clears. Ctrl+Z and Ctrl+Y (or Ctrl+Shift+Z) undo and redo on the whole page.
 *
 * @typedef {import("./preprocessing.js").Stroke} Stroke
 * @typedef {[number, number]} Point
 */

const STEP = 0.04; // of the pad, that an arrow key moves by
const SMALL_STEP = 0.01;
const NEAR = 0.002; // points nearer than this to the last one tell nothing new
const TREMBLE = 0.05; // a palm at rest moves by less
const GAP = 0.03; // where points are further apart, a curve is laid through them
const CORNER = (100 * Math.PI) / 180; // a stroke that turns by more than this means the corner, as in 7 and Z

/** @type {Record<string, Point>} */
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** @param {Point} a @param {Point} b */
const distance = (a, b) => Math.hypot(b[0] - a[0], b[1] - a[1]);

/** How far a stroke goes from where it begins. @param {Stroke} stroke */
const way = (stroke) => Math.max(...stroke.map((point) => distance(stroke[0], point)));

/**
 * Lay a curve through the points of a quick stroke, of which a device tells few, as cubic Hermite pieces. Its direction
 * at a point is that from the point before to the one after (Catmull and Rom, 1974), and at a corner and at the ends that
 * of the line itself.
 * @param {Stroke} points
 * @returns {Stroke}
 */
function smooth(points) {
  const unit = points.slice(1).map((point, i) => {
    const length = distance(points[i], point);
    return [(point[0] - points[i][0]) / length, (point[1] - points[i][1]) / length];
  });
  /** @param {number} at  a point @param {number} line  that begins or ends there */
  const direction = (at, line) => {
    const [before, after] = [unit[at - 1], unit[at]];
    if (!before || !after || before[0] * after[0] + before[1] * after[1] < Math.cos(CORNER)) return unit[line];
    const [x, y] = [before[0] + after[0], before[1] + after[1]];
    return [x / Math.hypot(x, y), y / Math.hypot(x, y)];
  };
  return points.flatMap((point, i) => {
    if (i === 0) return [point];
    const from = points[i - 1];
    const length = distance(from, point);
    const [start, end] = [direction(i - 1, i - 1), direction(i, i - 1)];
    const n = Math.ceil(length / GAP);
    return Array.from({ length: n }, (_, k) => {
      const t = (k + 1) / n;
      /** @param {0 | 1} axis */
      const place = (axis) =>
        (1 + 2 * t) * (1 - t) ** 2 * from[axis] + t * (1 - t) ** 2 * length * start[axis] +
        t ** 2 * (3 - 2 * t) * point[axis] + t ** 2 * (t - 1) * length * end[axis];
      return /** @type {Point} */ ([place(0), place(1)]);
    });
  });
}

export class Pad extends EventTarget {
  /** @type {Stroke[]} */
  strokes = [];
  /** @type {Stroke[][]} what the strokes were before, for undo */
  #past = [];
  /** @type {Stroke[][]} what was undone, the latest last */
  #future = [];
  /** @type {Stroke | null} the stroke that is being drawn */
  #open = null;
  /** @type {PointerEvent | null} its first event; other pointers are palms */
  #pointer = null;
  #box = new DOMRect(); // where the pad was then
  /** @type {{ event: PointerEvent, stroke: Stroke } | null} the touch that was taken for a palm when another came */
  #palm = null;
  /** @type {WeakSet<Stroke>} those of fingers, or of the palm of whoever then writes with a pen */
  #touched = new WeakSet();
  #hasPen = false; // whoever has a pen writes with it: until the pad is empty again, touches are palms
  /** @type {Point | null} */
  #cursor = null;
  #pen = 0.1;

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    super();
    this.canvas = canvas;
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event));
    canvas.addEventListener("lostpointercapture", (event) => this.#up(event));
    canvas.addEventListener("pointercancel", (event) => event.pointerId === this.#pointer?.pointerId && this.#drop());
    canvas.addEventListener("dragstart", (event) => event.preventDefault()); // of selected text, it ends the stroke
    canvas.addEventListener("keydown", (event) => this.#key(event));
    document.addEventListener("keydown", (event) => this.#shortcut(event));
    canvas.addEventListener("blur", () => {
      if (!this.#pointer) this.#end();
      this.#cursor = null;
      this.paint();
    });
    new ResizeObserver(() => this.paint()).observe(canvas);
    new MutationObserver(() => this.paint()).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  }

  /** Width of the pen as a part of the character's size; on the pad it is that of its side, a little less. */
  get pen() {
    return this.#pen;
  }

  set pen(width) {
    this.#pen = width;
    this.paint();
  }

  get canUndo() {
    return this.#past.length > 0;
  }

  get canRedo() {
    return this.#future.length > 0;
  }

  undo() {
    this.#end(); // so that a stroke that is being drawn is the one that goes
    this.#travel(this.#past, this.#future);
  }

  redo() {
    if (!this.#open) this.#travel(this.#future, this.#past);
  }

  clear() {
    this.#drop();
    if (this.strokes.length) this.#change([]);
  }

  /** @param {Stroke[]} strokes  of a drawing of earlier, which can be undone one by one */
  restore(strokes) {
    this.#past = strokes.map((_, n) => strokes.slice(0, n));
    this.#show(strokes);
  }

  /** @param {Stroke[]} strokes */
  #change(strokes) {
    this.#past.push(this.strokes);
    this.#future = [];
    this.#show(strokes);
  }

  /** @param {Stroke[][]} from @param {Stroke[][]} to */
  #travel(from, to) {
    const strokes = from.pop();
    if (!strokes) return;
    to.push(this.strokes);
    this.#show(strokes);
  }

  /** @param {Stroke[]} strokes */
  #show(strokes) {
    this.strokes = strokes;
    if (!strokes.length) this.#hasPen = false;
    this.paint();
    this.dispatchEvent(new Event("change"));
  }

  /** Forget the stroke that is being drawn. */
  #drop() {
    this.#open = this.#pointer = null;
    this.paint();
  }

  /** Forget the touches before a pen's arrival: they were the palm's. */
  #forgetTouches() {
    if (this.#pointer?.pointerType === "touch") this.#drop();
    const states = [...this.#past, this.strokes].map((state) => state.filter((stroke) => !this.#touched.has(stroke)));
    const distinct = states.filter((state, i) => i === 0 || state.length !== states[i - 1].length);
    const left = distinct.pop() ?? [];
    this.#past = distinct;
    this.#future = [];
    if (left.length !== this.strokes.length) this.#show(left);
    this.#hasPen = true;
  }

  /** @param {Point} point */
  #begin(point) {
    this.#open = [point];
    this.paint();
  }

  /** @param {Point} point */
  #extend(point) {
    if (this.#open && distance(this.#open[this.#open.length - 1], point) >= NEAR) this.#open.push(point);
  }

  #end() {
    if (!this.#open) return;
    const stroke = smooth(this.#open);
    if (this.#pointer?.pointerType === "touch") this.#touched.add(stroke);
    this.#open = this.#pointer = null;
    this.#change([...this.strokes, stroke]);
  }

  /**
   * Where an event is in parts of the pad's side; a stroke that leaves the pad goes on outside.
   * @param {PointerEvent} event
   * @returns {Point}
   */
  #place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  /** @param {PointerEvent} event */
  #down(event) {
    if (event.button !== 0) return;
    if (event.pointerId === this.#palm?.event.pointerId) this.#palm = null; // it was lifted, and the number is used anew
    if (event.pointerType === "pen") this.#forgetTouches();
    if (event.pointerId === this.#pointer?.pointerId) this.#end(); // its end was not told
    // a touch that has hardly moved when another comes is a palm, and the other is the finger, or a pen that says it is one
    if (this.#open && this.#pointer?.pointerType === "touch" && event.pointerType === "touch" && way(this.#open) < TREMBLE) {
      this.#palm = { event: this.#pointer, stroke: this.#open };
      this.#drop();
    }
    if (this.#pointer || (this.#hasPen && event.pointerType === "touch")) return;
    this.#end(); // of the keyboard
    this.#cursor = null;
    this.#pointer = event;
    this.#box = this.canvas.getBoundingClientRect();
    this.#begin(this.#place(event));
    try {
      this.canvas.setPointerCapture(event.pointerId);
    } catch {
      // the pointer is gone already: the stroke ends where the pad ends
    }
  }

  /** @param {PointerEvent} event */
  #move(event) {
    if (this.#palm && event.pointerId === this.#palm.event.pointerId) this.#judge(this.#palm, this.#place(event));
    if (event.pointerId !== this.#pointer?.pointerId) return;
    const box = this.canvas.getBoundingClientRect();
    const shift = [box.left - this.#box.left, box.top - this.#box.top, box.width - this.#box.width].map(Math.abs);
    // its end was not told, or the pad has been turned or scrolled away under the pen
    if (!(event.buttons & 1) || Math.max(...shift) > 2) return this.#end();
    for (const one of [...(event.getCoalescedEvents?.() ?? []), event]) this.#extend(this.#place(one));
    this.paint();
  }

  /**
   * Say what two touches are when the one that was taken for a palm moves.
   * @param {{ event: PointerEvent, stroke: Stroke }} palm
   * @param {Point} place  where it is now
   */
  #judge(palm, place) {
    const moved = distance(palm.stroke[0], place);
    if (moved < TREMBLE || !this.#open || this.#pointer?.pointerType !== "touch") return;
    if (way(this.#open) < TREMBLE / 2) {
      // the one that came later rests, so it is the palm
      this.#palm = { event: this.#pointer, stroke: this.#open };
      [this.#pointer, this.#open] = [palm.event, palm.stroke];
    } else if (moved >= way(this.#open) / 3) {
      this.#palm = null; // two fingers that both move pinch, and write nothing
      this.#drop();
    }
  }

  /** @param {PointerEvent} event */
  #up(event) {
    if (event.pointerId !== this.#pointer?.pointerId) return;
    if (event.type === "pointerup") this.#extend(this.#place(event));
    this.#end();
  }

  /** @param {KeyboardEvent} event */
  #shortcut(event) {
    const isText = event.target instanceof Element && event.target.matches("input:not([type=range], [type=radio]), textarea");
    if (!(event.ctrlKey || event.metaKey) || event.altKey || isText) return;
    // in a script without Latin letters, the place of the key
    const key = (/^[a-z]$/i.test(event.key) ? event.key : event.code.slice(-1)).toLowerCase();
    if (key === "y" || (key === "z" && event.shiftKey)) this.redo();
    else if (key === "z") this.undo();
    else return;
    event.preventDefault();
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = ARROWS[event.key];
    if (arrow) {
      const step = event.shiftKey ? SMALL_STEP : STEP;
      const [x, y] = this.#cursor ?? [0.5, 0.5];
      const [nextX, nextY] = [x + step * arrow[0], y + step * arrow[1]].map((v) => Math.min(Math.max(v, 0), 1));
      this.#cursor = [nextX, nextY];
      if (!this.#pointer) this.#extend([nextX, nextY]);
      this.paint();
    } else if (event.key === " " || event.key === "Enter") {
      if (this.#open) this.#end();
      else {
        this.#begin((this.#cursor ??= [0.5, 0.5]));
        this.dispatchEvent(new Event("pendown"));
      }
    } else if (event.key === "Escape" && this.#open) this.#end();
    else if (event.key === "Backspace") this.undo();
    else if (event.key === "Delete") this.clear();
    else return;
    event.preventDefault();
  }

  /** @param {CanvasRenderingContext2D} context @param {number} side @param {string} ink */
  #draw(context, side, ink) {
    context.lineCap = context.lineJoin = "round";
    context.strokeStyle = ink;
    context.lineWidth = this.#pen * 0.7 * side;
    for (const stroke of this.#open ? [...this.strokes, smooth(this.#open)] : this.strokes) {
      context.beginPath();
      context.moveTo(stroke[0][0] * side, stroke[0][1] * side);
      for (const [x, y] of stroke) context.lineTo(x * side, y * side); // of one point: a dot, by its round caps
      context.stroke();
    }
  }

  paint() {
    const { canvas } = this;
    const side = Math.round(canvas.clientWidth * devicePixelRatio);
    if (!side) return;
    if (canvas.width !== side) canvas.width = canvas.height = side;
    const context = canvas.getContext("2d");
    if (!context) return;
    const style = getComputedStyle(canvas);
    context.clearRect(0, 0, side, side);
    this.#draw(context, side, style.color);
    if (this.#cursor) {
      const [x, y] = this.#cursor.map((value) => value * side);
      context.lineWidth = 2 * devicePixelRatio;
      context.strokeStyle = style.outlineColor;
      for (const radius of this.#open ? [8, 4] : [8]) {
        context.beginPath();
        context.arc(x, y, radius * devicePixelRatio, 0, 2 * Math.PI);
        context.stroke();
      }
    }
  }
}
