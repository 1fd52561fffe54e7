/**
 * The pad: a canvas that is drawn on with mouse, pen or finger, or by keyboard. It keeps the strokes in 0..1 of its side,
 * dispatches "change" when a stroke has ended or was taken back, and "pendown" when a key puts the pen down.
 *
 * Keys: arrows move a cursor (with Shift in small steps), Space or Enter puts the pen down and lifts it, Escape lifts it,
 * Backspace takes the last stroke back, Delete clears.
 *
 * @typedef {import("./preprocessing.js").Stroke} Stroke
 */

const STEP = 0.04; // of the pad, that an arrow key moves by
const SMALL_STEP = 0.01;
const NEAR = 0.002; // points nearer than this to the last one tell nothing new

/** @type {Record<string, [number, number]>} */
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Pad extends EventTarget {
  /** @type {Stroke[]} */
  strokes = [];
  /** @type {Stroke | null} the stroke that is being drawn */
  #open = null;
  /** @type {number | null} the pointer that draws it; others are palms */
  #pointer = null;
  /** @type {[number, number] | null} */
  #cursor = null;
  #pen = 0.1;

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    super();
    this.canvas = canvas;
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of /** @type {const} */ (["pointerup", "pointercancel"])) {
      canvas.addEventListener(name, (event) => event.pointerId === this.#pointer && this.#end());
    }
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => {
      this.#end();
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

  undo() {
    this.#open = this.#pointer = null;
    if (this.strokes.pop()) this.#changed();
  }

  clear() {
    this.#open = this.#pointer = null;
    this.strokes = [];
    this.#changed();
  }

  #changed() {
    this.paint();
    this.dispatchEvent(new Event("change"));
  }

  /** @param {[number, number]} point */
  #begin(point) {
    this.#open = [point];
    this.paint();
  }

  /** @param {[number, number]} point */
  #extend(point) {
    if (!this.#open) return;
    const [x, y] = this.#open[this.#open.length - 1];
    if (Math.hypot(point[0] - x, point[1] - y) < NEAR) return;
    this.#open.push(point);
  }

  #end() {
    if (!this.#open) return;
    this.strokes.push(this.#open);
    this.#open = this.#pointer = null;
    this.#changed();
  }

  /**
   * @param {PointerEvent} event
   * @returns {[number, number]}
   */
  #place(event) {
    const box = this.canvas.getBoundingClientRect();
    /** @param {number} value */
    const inside = (value) => Math.min(Math.max(value, 0), 1);
    return [inside((event.clientX - box.left) / box.width), inside((event.clientY - box.top) / box.height)];
  }

  /** @param {PointerEvent} event */
  #down(event) {
    if (this.#open || event.button !== 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.#cursor = null;
    this.#pointer = event.pointerId;
    this.#begin(this.#place(event));
  }

  /** @param {PointerEvent} event */
  #move(event) {
    if (event.pointerId !== this.#pointer) return;
    const all = event.getCoalescedEvents?.() ?? [];
    for (const one of all.length ? all : [event]) this.#extend(this.#place(one));
    this.paint();
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) {
      if (event.key === "z" && !event.altKey) {
        event.preventDefault();
        this.undo();
      }
      return;
    }
    const arrow = ARROWS[event.key];
    if (arrow) {
      const step = event.shiftKey ? SMALL_STEP : STEP;
      const [x, y] = this.#cursor ?? [0.5, 0.5];
      const [nextX, nextY] = [x + step * arrow[0], y + step * arrow[1]].map((v) => Math.min(Math.max(v, 0), 1));
      this.#cursor = [nextX, nextY];
      this.#extend([nextX, nextY]);
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

  paint() {
    const { canvas } = this;
    const side = Math.round(canvas.clientWidth * devicePixelRatio);
    if (!side) return;
    if (canvas.width !== side) canvas.width = canvas.height = side;
    const context = canvas.getContext("2d");
    if (!context) return;
    const style = getComputedStyle(canvas);
    context.clearRect(0, 0, side, side);
    context.lineCap = context.lineJoin = "round";
    context.strokeStyle = context.fillStyle = style.color;
    context.lineWidth = this.#pen * 0.7 * side;
    for (const stroke of this.#open ? [...this.strokes, this.#open] : this.strokes) {
      context.beginPath();
      context.moveTo(stroke[0][0] * side, stroke[0][1] * side);
      for (const [x, y] of stroke) context.lineTo(x * side, y * side); // of one point: a dot, by its round caps
      context.stroke();
    }
    if (this.#cursor) {
      const [x, y] = this.#cursor.map((value) => value * side);
      context.lineWidth = 2 * devicePixelRatio;
      context.strokeStyle = style.outlineColor;
      context.beginPath();
      context.arc(x, y, 8 * devicePixelRatio, 0, 2 * Math.PI);
      context.stroke();
      if (this.#open) {
        context.beginPath();
        context.arc(x, y, 4 * devicePixelRatio, 0, 2 * Math.PI);
        context.stroke();
      }
    }
  }
}
