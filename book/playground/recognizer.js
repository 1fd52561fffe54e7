/**
 * The page's side of the worker: loads a model, and recognizes the newest strokes alone.
 *
 * @typedef {{
 *   name: string, title: string, lang: string, file: string, bytes: number, sha256: string, classes: string[],
 *   shape: number[], image: import("./preprocessing.js").ImageForm, pen: number,
 *   scores: { temperature: number, rejector?: { weights: number[], bias: number } }, accuracy: string, trained_on: string,
 * }} Model  an entry of models.json, which the build writes
 * @typedef {{ character: string, score: number }} Candidate
 * @typedef {{
 *   candidates: Candidate[], likely: boolean, picture: import("./preprocessing.js").Picture, milliseconds: number,
 * }} Result
 * @typedef {{ number: number, model?: Model, strokes?: import("./preprocessing.js").Stroke[], pen?: number }} Request
 * @typedef {{ number: number, result?: Result, failure?: { reason: string, detail: string } }} Reply
 */

/** Something that the reader is told; `reason` says which message. */
export class RecognizerError extends Error {
  /** @param {string} reason @param {string} detail */
  constructor(reason, detail) {
    super(detail);
    this.reason = reason;
  }
}

export class Recognizer {
  /** @type {Map<number, { resolve: (result: any) => void, reject: (error: Error) => void }>} */
  #waiting = new Map();
  #number = 0;
  /** @type {Promise<unknown>} */
  #busy = Promise.resolve();
  #newest = 0;

  constructor() {
    if (typeof WebAssembly === "undefined" || typeof Worker === "undefined") {
      throw new RecognizerError("unsupported", "no WebAssembly or no Worker");
    }
    this.worker = new Worker(new URL("worker.js", import.meta.url));
    this.worker.addEventListener("message", (/** @type {MessageEvent<Reply>} */ event) => {
      const { number, result, failure } = event.data;
      const waiting = this.#waiting.get(number);
      this.#waiting.delete(number);
      if (failure) waiting?.reject(new RecognizerError(failure.reason, failure.detail));
      else waiting?.resolve(result);
    });
    this.worker.addEventListener("error", (event) => {
      // the script itself is missing or is none
      for (const { reject } of this.#waiting.values()) reject(new RecognizerError("runtime", event.message ?? ""));
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
   * @returns {Promise<void>}  rejected by a RecognizerError
   */
  load(model) {
    this.#newest++; // what was drawn for the one before is not recognized any more
    return (this.#busy = this.#ask({ model }));
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
