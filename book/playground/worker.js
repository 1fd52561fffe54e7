/**
 * Recognizes characters beside the page, so that the pen never waits. A classic worker and no module: LiteRT loads its
 * WebAssembly by importScripts, which modules have not. What is a module here is imported when the worker starts.
 *
 * @typedef {import("./recognizer.js").Model} Model
 */

const LITERT = "./litert/core.js"; // of npm's @litertjs/core, which the build puts here
const modules = Promise.all([
  import("./preprocessing.js"),
  /** @type {Promise<typeof import("@litertjs/core")>} */ (import(LITERT)),
]);
modules.catch(() => {}); // told when a model is loaded

/** @type {Promise<unknown> | undefined} */
let runtime;
/** @type {{ model: Model, compiled: import("@litertjs/core").CompiledModel } | undefined} */
let loaded;

/** What the page tells the reader; `reason` is a key of its messages. */
class Failure extends Error {
  /** @param {string} reason @param {string} detail */
  constructor(reason, detail) {
    super(detail);
    this.reason = reason;
  }
}

async function startRuntime() {
  const [, litert] = await modules;
  // Emscripten would look for the .wasm file beside this script
  Object.assign(self, { Module: { locateFile: (/** @type {string} */ name) => new URL(`litert/${name}`, self.location.href).href } });
  await litert.loadLiteRt(new URL("litert/", self.location.href).href);
}

/** @param {Model} model */
async function load(model) {
  const bytes = fetchModel(model);
  bytes.catch(() => {}); // it is awaited below, after the runtime
  runtime ??= startRuntime();
  try {
    await runtime;
  } catch (error) {
    runtime = undefined;
    throw new Failure("runtime", String(error));
  }
  const content = await bytes;
  const [, litert] = await modules;
  const older = loaded;
  loaded = undefined;
  older?.compiled.delete();
  try {
    loaded = { model, compiled: await litert.loadAndCompile(content, { accelerator: "wasm" }) };
    await run(new Float32Array(model.shape.reduce((a, b) => a * b))); // the first run allocates
  } catch (error) {
    throw new Failure("runtime", String(error));
  }
}

/** @param {Model} model */
async function fetchModel(model) {
  let response;
  try {
    response = await fetch(new URL(model.file, self.location.href));
  } catch (error) {
    throw new Failure("missing", String(error));
  }
  if (!response.ok) throw new Failure("missing", `${model.file}: ${response.status} ${response.statusText}`);
  const content = new Uint8Array(await response.arrayBuffer());
  if (content.length !== model.bytes) throw new Failure("damaged", `${model.file}: ${content.length} bytes of ${model.bytes}`);
  if (self.crypto?.subtle) { // browsers have it on https and on this machine alone
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
    const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
    if (found !== model.sha256) throw new Failure("damaged", `${model.file}: SHA-256 ${found}`);
  }
  return content;
}

/**
 * Run the network on one image and return its logits.
 * @param {Float32Array} values
 */
async function run(values) {
  if (!loaded) throw new Failure("runtime", "no model is loaded");
  const [, litert] = await modules;
  const input = new litert.Tensor(values, loaded.model.shape);
  try {
    const [output] = await loaded.compiled.run(input);
    const logits = Float64Array.from(output.toTypedArray());
    output.delete();
    return logits;
  } finally {
    input.delete();
  }
}

/**
 * Does the picture show a character? As hwr_utils/prediction.py does it: by the logits, their squares, and the greatest.
 *
 * @param {Float64Array} logits
 * @param {{ weights: number[], bias: number }} [rejector]
 */
function accepts(logits, rejector) {
  if (!rejector) return true;
  const features = [...logits, ...logits.map((logit) => logit ** 2), ...logits.slice().sort().reverse()];
  return rejector.weights.reduce((sum, weight, place) => sum + weight * features[place], rejector.bias) >= 0;
}

/**
 * @param {import("./preprocessing.js").Stroke[]} strokes
 * @param {number} pen
 */
async function recognize(strokes, pen) {
  if (!loaded) throw new Failure("runtime", "no model is loaded");
  const began = performance.now();
  const { model } = loaded;
  const [preprocessing] = await modules;
  const picture = preprocessing.prepare(strokes, pen, model.image);
  const logits = await run(preprocessing.toInput(picture, model.shape));
  const largest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const scores = logits.map((logit) => Math.exp((logit - largest) / model.scores.temperature));
  const sum = scores.reduce((a, b) => a + b, 0);
  const candidates = Array.from(scores, (score, label) => ({ character: model.classes[label], score: score / sum }))
    .sort((a, b) => b.score - a.score)
    .slice(0, 10);
  return {
    candidates,
    likely: accepts(logits, model.scores.rejector),
    picture,
    milliseconds: performance.now() - began,
  };
}

self.addEventListener("message", async (/** @type {MessageEvent<import("./recognizer.js").Request>} */ event) => {
  const { number, model, strokes, pen } = event.data;
  /** @type {import("./recognizer.js").Reply} */
  let reply;
  try {
    if (model) await load(model);
    reply = { number, result: strokes ? await recognize(strokes, pen ?? 0.1) : undefined };
  } catch (error) {
    reply = { number, failure: { reason: error instanceof Failure ? error.reason : "runtime", detail: String(error) } };
  }
  self.postMessage(reply);
});
