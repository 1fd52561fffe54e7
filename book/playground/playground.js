/** The playground's page: binds the pad, the recognizer and the controls together. */

import { offline } from "./offline.js";
import { Pad } from "./pad.js";
import { Recognizer, RecognizerError } from "./recognizer.js";

/** @typedef {import("./recognizer.js").Model} Model */

/** @type {Record<string, string>} what the reader is told; {title} is the model's */
const MESSAGES = {
  unsupported: "This browser cannot run the networks: it has no WebAssembly with SIMD, or no Web Workers. Every browser of the last years has both.",
  runtime: "The networks cannot run here: LiteRT did not start. Reload the page; a browser of the last years is needed.",
  missing: "The file of the model “{title}” is missing or cannot be reached. Go online and reload the page, or choose another model.",
  damaged: "The file of the model “{title}” is damaged: it is not the one that this page was made with. Reload the page, or choose another model.",
  list: "The list of models is missing or damaged. Go online and reload the page.",
  none: "No model has been trained for this edition of the book yet.",
};

/**
 * @template {Element} T
 * @param {string} id
 * @param {new () => T} type
 * @returns {T}
 */
function element(id, type) {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`the page has no ${id}`);
  return found;
}

const app = element("playground-app", HTMLElement);
const status = element("playground-status", HTMLElement);
const answer = element("playground-answer", HTMLElement);
const list = element("playground-candidates", HTMLOListElement);
const choice = element("playground-models", HTMLElement);
const about = element("playground-about", HTMLElement);
const penWidth = element("playground-pen", HTMLInputElement);
const seen = element("playground-seen", HTMLCanvasElement);
const view = element("playground-view", HTMLElement);
const copied = element("playground-copied", HTMLElement);
const [undo, clear] = ["playground-undo", "playground-clear"].map((id) => element(id, HTMLButtonElement));
const pad = new Pad(element("playground-pad", HTMLCanvasElement));

/** @type {Recognizer} */
let recognizer;
/** @type {Model | null} the model that is ready */
let ready = null;
let wanted = ""; // the name of the model that was chosen last

/** @param {string} text @param {"" | "error" | "unlikely"} kind */
function say(text, kind = "") {
  status.textContent = text;
  app.dataset.state = status.dataset.kind = kind;
}

/** @param {number} score */
const percent = (score) => (score >= 0.995 ? "> 99 %" : score < 0.01 ? "< 1 %" : `${Math.round(100 * score)} %`);

/** @param {unknown} error @param {Model} [model] */
function fail(error, model) {
  const reason = error instanceof RecognizerError ? error.reason : "runtime";
  console.error(error);
  say(MESSAGES[reason].replace("{title}", model?.title ?? ""), "error");
}

function empty() {
  list.replaceChildren();
  copied.textContent = "";
  view.hidden = true;
  say(ready ? "Draw a character on the pad." : "Loading …");
}

async function recognize() {
  undo.disabled = clear.disabled = !pad.strokes.length;
  if (!ready) return;
  if (!pad.strokes.length) return empty();
  const model = ready;
  const began = performance.now();
  let result;
  try {
    result = await recognizer.recognize(pad.strokes, pad.pen);
  } catch (error) {
    return fail(error, model);
  }
  if (!result || !pad.strokes.length || model !== ready) return; // there is something newer
  show(result, model);
  app.dataset.milliseconds = (performance.now() - began).toFixed(1);
}

/**
 * @param {import("./recognizer.js").Result} result
 * @param {Model} model
 */
function show(result, model) {
  copied.textContent = "";
  list.lang = model.lang;
  list.replaceChildren(
    ...result.candidates.map(({ character, score }, place) => {
      const button = document.createElement("button");
      button.type = "button";
      // what is seen comes first: whoever speaks to the computer says that
      button.setAttribute("aria-label", `${character} ${percent(score)}, candidate ${place + 1}: copy`);
      const [glyph, share] = [document.createElement("span"), document.createElement("small")];
      glyph.textContent = character;
      share.textContent = percent(score);
      button.append(glyph, " ", share);
      button.addEventListener("click", () => copy(character));
      const item = document.createElement("li");
      item.append(button);
      return item;
    }),
  );
  const [best] = result.candidates;
  if (result.likely) say(`Most likely: ${best.character}, ${percent(best.score)}.`);
  else say(`No candidate is likely: this looks like none of the ${model.classes.length.toLocaleString("en")} characters that the model knows. These are guesses.`, "unlikely");
  const { pixels, width, height } = result.picture;
  [seen.width, seen.height, view.hidden] = [width, height, false];
  const image = new ImageData(width, height);
  pixels.forEach((value, place) => image.data.set([value, value, value, 255], 4 * place));
  seen.getContext("2d")?.putImageData(image, 0, 0);
}

/** @param {string} character */
async function copy(character) {
  try {
    await navigator.clipboard.writeText(character);
    copied.textContent = `${character} is copied.`;
  } catch {
    copied.textContent = `The browser does not allow copying ${character} here.`;
  }
}

/** @param {Model} model */
async function choose(model) {
  wanted = model.name;
  ready = null;
  pad.pen = model.pen;
  penWidth.value = String(model.pen);
  about.textContent = `${(model.bytes / 1e6).toFixed(2)} MB. ${model.accuracy} ${model.trained_on}`;
  list.replaceChildren();
  say(`Loading “${model.title}” …`);
  app.dataset.ready = "";
  try {
    await recognizer.load(model);
  } catch (error) {
    if (wanted === model.name) fail(error, model);
    return;
  }
  if (wanted !== model.name) return; // another was chosen meanwhile
  ready = model;
  app.dataset.ready = model.name;
  performance.mark("playground-ready");
  empty();
  await recognize();
}

/** @param {Model[]} models @param {Model} first */
function offer(models, first) {
  choice.replaceChildren(
    ...models.map((model) => {
      const [label, radio] = [document.createElement("label"), document.createElement("input")];
      Object.assign(radio, { type: "radio", name: "playground-model", value: model.name, checked: model === first });
      radio.addEventListener("change", () => {
        history.replaceState(null, "", `#${model.name}`); // a reload, or the page kept on a phone, comes back to it
        choose(model);
      });
      label.append(radio, ` ${model.title}`);
      return label;
    }),
  );
}

async function start() {
  pad.addEventListener("change", recognize);
  pad.addEventListener("pendown", () => say("The pen is down."));
  undo.addEventListener("click", () => pad.undo());
  clear.addEventListener("click", () => pad.clear());
  penWidth.addEventListener("input", () => {
    pad.pen = Number(penWidth.value);
    recognize();
  });
  let first;
  try {
    const response = await fetch(new URL("models.json", import.meta.url));
    /** @type {{ models: Model[] }} */
    const { models } = await response.json();
    if (!models.length) return say(MESSAGES.none, "error");
    first = models.find((model) => `#${model.name}` === location.hash) ?? models[0]; // playground.html#hanzi
    offer(models, first);
  } catch (error) {
    return fail(new RecognizerError("list", String(error)));
  }
  try {
    recognizer = new Recognizer();
  } catch (error) {
    return fail(error);
  }
  answer.prepend(status); // now that there is an answer, its verdict stands over the candidates
  app.hidden = false;
  await choose(first);
}

start();
offline(element("playground-offline", HTMLElement), element("playground-update", HTMLElement));
