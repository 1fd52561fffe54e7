/**
 * The page's side of the worker: loads a model, and recognizes the newest strokes alone.
 *
 * @typedef {import("./models.js").Model} Model
 * @typedef {{ character: string, score: number }} Candidate
 * @typedef {{
 *   candidates: Candidate[], likely: boolean, several: boolean, milliseconds: number,
 *   picture: import("./preprocessing.js").Picture,
 * }} Result
 * @typedef {{ number: number, model?: Model, strokes?: import("./preprocessing.js").Stroke[], pen?: number }} Request
 * @typedef {{ number: number, result?: Result | string[], failure?: { reason: string, detail: string } }} Reply
 */

import { Failure } from "./models.js";

export class Recognizer {
  /** @type {Map<number, { resolve: (result: any) => void, reject: (error: Error) => void }>} */
  #waiting = new Map();
  #number = 0;
  /** @type {Promise<unknown>} */
  #busy = Promise.resolve();
  #newest = 0;

  constructor() {
    if (typeof WebAssembly === "undefined" || typeof Worker === "undefined") {
      throw new Failure("unsupported", "no WebAssembly or no Worker");
    }
    this.worker = new Worker(new URL("worker.js", import.meta.url));
    this.worker.addEventListener("message", (/** @type {MessageEvent<Reply>} */ event) => {
      const { number, result, failure } = event.data;
      const waiting = this.#waiting.get(number);
      this.#waiting.delete(number);
      if (failure) waiting?.reject(new Failure(failure.reason, failure.detail));
      else waiting?.resolve(result);
    });
    this.worker.addEventListener("error", (event) => {
      // the script itself is missing or is none
      for (const { reject } of this.#waiting.values()) reject(new Failure("runtime", event.message ?? ""));
      this.#waiting.clear();
    });
  }

  /** @param {Omit<Request, "number">} request */
  #ask(request) {
    const number = ++this.#number;
    this.worker.postMessage({ number, ...request });
    return new Promise((resolve, reject) => this.#waiting.set(number, { resolve, reject }));
  }

  /**
   * Load a model in place of the one before.
   * @param {Model} model
   * @returns {Promise<string[]>}  the files that the worker has loaded; rejected by a Failure
   */
  load(model) {
    this.#newest++; // what was drawn for the one before is not recognized any more
    const asked = this.#ask({ model });
    this.#busy = asked;
    return asked;
  }

  /**
   * Recognize strokes; null where newer ones came while these waited.
   * @param {import("./preprocessing.js").Stroke[]} strokes
   * @param {number} pen
   * @returns {Promise<Result | null>}
   */
  async recognize(strokes, pen) {
    const turn = ++this.#newest;
    await this.#busy.catch(() => {}); // the worker does one thing at a time
    if (turn !== this.#newest) return null;
    const asked = this.#ask({ strokes, pen });
    this.#busy = asked;
    const result = await asked;
    return turn === this.#newest ? result : null;
  }
}
