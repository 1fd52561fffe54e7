/**
 * Recognizes characters beside the page, so that the pen never waits. A classic worker and no module: LiteRT loads its
 * WebAssembly by importScripts, which modules have not. What is a module here is imported when the worker starts.
 *
 * @typedef {import("./models.js").Model} Model
 */

const THIN = 0.02; // a pen, as a part of the character's size, that leaves the gaps between characters open
const LITERT = "./litert/core.js"; // of npm's @litertjs/core, which the build puts here
const modules = Promise.all([
  import("./preprocessing.js"),
  import("./models.js"),
  /** @type {Promise<typeof import("@litertjs/core")>} */ (import(LITERT)),
]);
modules.catch(() => {}); // told when a model is loaded

// LiteRT fetches its WebAssembly by itself, once. It is kept as it comes: the browser's own cache may be too small for it.
const plainFetch = self.fetch.bind(self);
/** @type {Promise<unknown> | undefined} */
let keeping;
Object.assign(self, {
  /** @param {Parameters<typeof plainFetch>} request */
  fetch: async (...request) => {
    const response = await plainFetch(...request);
    if (response.ok && response.url.endsWith(".wasm")) keeping = keep(response.clone()).catch(console.warn);
    return response;
  },
});

/** @param {Response} response */
async function keep(response) {
  const [, models] = await modules;
  const cache = await models.openCache("");
  if (!(await cache?.match(response.url))) await cache?.put(response.url, response);
}

/** @type {Promise<unknown> | undefined} */
let runtime;
/** @type {{ model: Model, compiled: import("@litertjs/core").CompiledModel } | undefined} */
let loaded;
let newest = 0; // the model that was asked for last, whatever comes first from the network

async function startRuntime() {
  const [, , litert] = await modules;
  // Emscripten would look for the .wasm file beside this script
  Object.assign(self, { Module: { locateFile: (/** @type {string} */ name) => new URL(`litert/${name}`, self.location.href).href } });
  await litert.loadLiteRt(new URL("litert/", self.location.href).href);
}

/** @param {Model} model */
async function load(model) {
  const turn = ++newest;
  const [, { fetchModel, Failure }, litert] = await modules;
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
  if (turn !== newest) return;
  try {
    const compiled = await litert.loadAndCompile(content, { accelerator: "wasm" });
    if (turn !== newest) return compiled.delete();
    loaded?.compiled.delete();
    loaded = { model, compiled };
    await run(new Float32Array(model.shape.reduce((a, b) => a * b))); // the first run allocates
  } catch (error) {
    throw new Failure("runtime", String(error));
  }
}

/**
 * Run the network on one image and return its logits.
 * @param {Float32Array} values
 */
async function run(values) {
  if (!loaded) throw new Error("no model is loaded");
  const [, , litert] = await modules;
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

/** @param {number[]} weights @param {number[]} values */
const dot = (weights, values) => weights.reduce((sum, weight, place) => sum + weight * values[place], 0);

/**
 * Does the picture show a character? See `Rejector` and `features` in hwr_utils/device/recognizer.py.
 *
 * @param {Float64Array} logits
 * @param {import("./preprocessing.js").Picture} picture
 * @param {Model["scores"]["rejector"]} [rejector]
 */
function accepts(logits, { pixels, width }, rejector) {
  if (!rejector) return true;
  const turned = [2, 4, 8].map((fold) => ({ fold, cosine: 0, sine: 0 })); // which ways the edges run
  let edges = 0;
  for (let place = 0; place + width + 1 < pixels.length; place++) {
    if ((place + 1) % width === 0) continue; // a square of four pixels begins in all columns but the last
    const [a, b, c, d] = [place, place + 1, place + width, place + width + 1].map((one) => pixels[one]);
    const [across, down] = [b + d - a - c, c + d - a - b];
    const [steep, angle] = [Math.hypot(across, down), Math.atan2(down, across)];
    edges += steep;
    for (const way of turned) {
      way.cosine += steep * Math.cos(way.fold * angle);
      way.sine += steep * Math.sin(way.fold * angle);
    }
  }
  const ink = pixels.reduce((sum, pixel) => sum + pixel, 0);
  const ways = [...turned.map((way) => way.cosine), ...turned.map((way) => Math.abs(way.sine))];
  const drawn = [ink / (255 * width), edges / (255 * width), ...ways.map((sum) => sum / (edges + 1))];
  const sorted = logits.slice().sort().reverse();
  const greatest = Array.from({ length: 10 }, (_, place) => sorted[Math.min(place, sorted.length - 1)]);
  const told = dot(rejector.weights, [...logits, ...logits.map((logit) => logit ** 2), ...greatest]);
  const seen = [1, told, ...greatest, ...drawn, ...drawn.map((one) => one ** 2)];
  const units = rejector.hidden.map((weights) => Math.max(dot(weights, seen), 0));
  return dot(rejector.output, [1, ...units]) >= 0;
}

/**
 * @param {import("./preprocessing.js").Stroke[]} strokes
 * @param {number} pen
 */
async function recognize(strokes, pen) {
  if (!loaded) throw new Error("no model is loaded");
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
    likely: accepts(logits, picture, model.scores.rejector),
    several: preprocessing.isSeveral(preprocessing.draw(strokes, THIN), model.classes),
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
    await keeping;
    const files = performance.getEntriesByType("resource").map((entry) => entry.name);
    reply = { number, result: strokes ? await recognize(strokes, pen ?? 0.1) : files };
  } catch (error) {
    const reason = error instanceof Error && "reason" in error ? String(error.reason) : "runtime";
    reply = { number, failure: { reason, detail: String(error) } };
  }
  self.postMessage(reply);
});
