/** The playground's page: binds the pad, the recognizer and the controls together. */

import { IS_KOREAN, message } from "./messages.js";
import { Failure, fetchModel, isKept } from "./models.js";
import { canKeep, keepPage } from "./offline.js";
import { Pad } from "./pad.js";
import { draw } from "./preprocessing.js";
import { Recognizer } from "./recognizer.js";

/** @typedef {import("./models.js").Model} Model */

const DRAWING = `playground ${location.pathname}`; // the name under which the browser keeps it until the tab is closed
const DOT = 0.05; // of the pad: what is smaller is no character

/**
 * @template {Element} T
 * @param {string} id
 * @param {new () => T} type
 * @returns {T}
 */
function element(id, type) {
  const found = document.getElementById(`playground-${id}`);
  if (!(found instanceof type)) throw new Error(`the page has no playground-${id}`);
  return found;
}

const app = element("app", HTMLElement);
const status = element("status", HTMLElement);
const list = element("candidates", HTMLOListElement);
const penWidth = element("pen", HTMLInputElement);
const seen = element("seen", HTMLCanvasElement);
const copied = element("copied", HTMLElement);
const known = element("known", HTMLDetailsElement);
const [undo, redo, clear, save, keepAll] = ["undo", "redo", "clear", "save", "keep"].map((id) => element(id, HTMLButtonElement));
const pad = new Pad(element("pad", HTMLCanvasElement));

/** @type {Recognizer} */
let recognizer;
/** @type {Model[]} */
let models = [];
/** @type {Model | null} the model that is ready */
let ready = null;
let wanted = { name: "" }; // the choice that was made last, of a model

/** @param {string} text @param {"" | "error" | "unlikely"} kind */
function say(text, kind = "") {
  status.textContent = text;
  app.dataset.state = status.dataset.kind = kind;
}

/** @param {number} score */
const percent = (score) => (score >= 0.995 ? "> 99 %" : score < 0.01 ? "< 1 %" : `${Math.round(100 * score)} %`);

/** @param {unknown} error @param {Model} [model] */
function fail(error, model) {
  const reason = error instanceof Failure ? error.reason : "runtime";
  console.error(error);
  list.ariaBusy = "false";
  say(message(reason, { title: model?.title ?? "" }), "error");
}

/**
 * Fill the blanks of the page's own sentences, and show those that there is something to say for.
 * @param {string} id
 * @param {Record<string, string>} facts
 */
function fill(id, facts) {
  const place = element(id, HTMLElement);
  place.classList.remove("playground-blank");
  for (const part of place.querySelectorAll("[data-value], [data-needs], [data-lacks]")) {
    if (!(part instanceof HTMLElement)) continue;
    const { value, needs, lacks } = part.dataset;
    if (value) part.textContent = facts[value] ?? "";
    part.hidden = Boolean((needs && !(needs in facts)) || (lacks && lacks in facts));
  }
}

function empty() {
  list.ariaBusy = "false";
  list.replaceChildren();
  copied.textContent = "";
  seen.width = seen.width; // blank again
  say(message(ready ? "draw" : "loading"));
}

/** Show what can be done with the drawing, and read it. */
function changed() {
  [undo.disabled, redo.disabled, clear.disabled, save.disabled] = [!pad.canUndo, !pad.canRedo, !pad.strokes.length, !pad.strokes.length];
  remember();
  recognize();
}

/** Keep the drawing, its pen and its model in case the page is loaded again. */
function remember() {
  if (!wanted.name) return; // it is what was kept that is being shown
  try {
    sessionStorage.setItem(DRAWING, JSON.stringify({ strokes: pad.strokes, pen: pad.pen, model: wanted.name }));
  } catch (error) {
    console.warn(error); // this browser keeps nothing
  }
}

/** @returns {{ model?: string, pen?: number }} of the drawing that was kept, which is shown again */
function restore() {
  try {
    const { strokes, pen, model } = JSON.parse(sessionStorage.getItem(DRAWING) ?? "");
    if (!strokes.length) return { model };
    pad.restore(strokes);
    return { model, pen };
  } catch {
    return {};
  }
}

async function recognize() {
  if (!ready) return;
  if (!pad.strokes.length) return empty();
  const model = ready;
  const began = performance.now();
  let result;
  list.ariaBusy = "true"; // until the candidates are those of the whole drawing
  try {
    result = await recognizer.recognize(pad.strokes, pad.pen);
  } catch (error) {
    return model === ready ? fail(error, model) : undefined;
  }
  if (!result || !pad.strokes.length || model !== ready) return; // there is something newer
  show(result, model);
  app.dataset.milliseconds = (performance.now() - began).toFixed(1);
}

/** Is the drawing no more than dots in one place? */
function isDot() {
  const extents = [0, 1].map((axis) => {
    const places = pad.strokes.flat().map((point) => point[axis]);
    return places.reduce((a, b) => Math.max(a, b)) - places.reduce((a, b) => Math.min(a, b));
  });
  return Math.max(...extents) < DOT;
}

/**
 * @param {import("./recognizer.js").Result} result
 * @param {Model} model
 */
function show(result, model) {
  copied.textContent = "";
  list.ariaBusy = "false";
  list.lang = model.lang;
  const likely = result.likely && !result.several && !isDot();
  const told = model.told && likely; // only scores of characters, and such as hold on real images
  list.replaceChildren(
    ...result.candidates.map(({ character, score }, place) => {
      const button = document.createElement("button");
      button.type = "button";
      const share = told ? percent(score) : "";
      button.setAttribute("aria-label", message(told ? "candidate" : "guess", { character, share, place: place + 1 }));
      const [glyph, small] = [document.createElement("span"), document.createElement("small")];
      glyph.textContent = character;
      small.textContent = share;
      button.append(glyph, " ", small);
      button.addEventListener("click", () => copy(character));
      const item = document.createElement("li");
      item.append(button);
      return item;
    }),
  );
  const [best] = result.candidates;
  if (result.several) say(message("several"), "unlikely");
  else if (likely) say(message(told ? "likely" : "best", { character: best.character, share: percent(best.score) }));
  else say(message("unlikely"), "unlikely");
  const { pixels, width, height } = result.picture;
  [seen.width, seen.height] = [width, height];
  const image = new ImageData(width, height);
  pixels.forEach((value, place) => image.data.set([value, value, value, 255], 4 * place));
  seen.getContext("2d")?.putImageData(image, 0, 0);
}

/** @param {string} character */
async function copy(character) {
  try {
    await navigator.clipboard.writeText(character);
    copied.textContent = message("copied", { character });
  } catch {
    copied.textContent = message("notCopied", { character });
  }
}

/** Save the drawing as the network was given it, black on white and with some paper around. */
function download() {
  const { pixels, width, height } = draw(pad.strokes, pad.pen, 384);
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 512;
  const context = canvas.getContext("2d");
  if (!context) throw new Error("this browser gives no canvas");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, 512, 512);
  const image = new ImageData(width, height);
  pixels.forEach((ink, place) => image.data.set([255 - ink, 255 - ink, 255 - ink, 255], 4 * place));
  context.putImageData(image, (512 - width) / 2, (512 - height) / 2);
  const link = document.createElement("a");
  Object.assign(link, { href: canvas.toDataURL("image/png"), download: "drawing.png" }).click();
}

/** @param {Model} model @param {number} [pen]  its width, in place of the model's */
async function choose(model, pen = model.pen) {
  const choice = (wanted = { name: model.name });
  ready = null;
  pad.pen = pen;
  penWidth.value = String(pen);
  remember();
  fill("knows", model.facts);
  fill("about", model.facts);
  fill("known", model.facts);
  known.lang = model.lang;
  element("characters", HTMLElement).textContent = model.classes.join(" ");
  list.replaceChildren();
  say(message("loadingModel", { title: model.title }));
  app.dataset.ready = "";
  let files;
  try {
    files = await recognizer.load(model);
  } catch (error) {
    if (wanted === choice) fail(error, model);
    return;
  }
  if (wanted !== choice) return; // another was chosen meanwhile
  ready = model;
  app.dataset.ready = model.name;
  performance.mark("playground-ready");
  empty();
  await recognize();
  await keep(async () => {
    if (model.lang !== "en") await loadFont();
    await keepPage(files);
  });
}

/**
 * Keep something on the device, and say what works without a network.
 * @param {() => Promise<unknown>} what
 */
async function keep(what) {
  const note = element("offline", HTMLElement);
  if (!canKeep) {
    note.textContent = message("cannotKeep");
    return;
  }
  try {
    await what();
    const there = await Promise.all(models.map(isKept));
    const titles = models.filter((_, place) => there[place]).map((model) => model.title);
    note.textContent = message(titles.length > 1 ? "keptSeveral" : "kept", { titles: titles.join(", ") });
    note.dataset.ready = titles.join(" ");
    keepAll.hidden = there.every(Boolean);
  } catch (error) {
    console.error(error);
    note.textContent = message("notKept");
  }
}

/** Load the book's font, so that it is kept for devices that have none of their own for kana and hanzi. */
async function loadFont() {
  await document.fonts.load('1rem "Book CJK"', "永").catch(console.warn);
}

async function keepEverything() {
  await Promise.all(models.map(fetchModel));
  await loadFont();
  await keepPage([]);
}

/** @param {Model} first */
function offer(first) {
  element("models", HTMLElement).replaceChildren(
    ...models.map((model) => {
      const [label, radio] = [document.createElement("label"), document.createElement("input")];
      Object.assign(radio, { type: "radio", name: "playground-model", value: model.name, checked: model === first });
      radio.addEventListener("change", () => {
        history.replaceState(null, "", `#${model.name}`); // a reload, or the page kept on a phone, comes back to it
        choose(model);
      });
      label.append(radio, model.title);
      return label;
    }),
  );
}

/** @param {{ model: string, times: string[] }[]} rows  of the times that were measured */
function tabulate(rows) {
  for (const { model, times } of rows) {
    const row = element("speed", HTMLTableElement).tBodies[0].insertRow();
    for (const text of [models.find((one) => one.name === model)?.title ?? model, ...times]) row.insertCell().textContent = text;
  }
}

async function start() {
  pad.addEventListener("change", changed);
  pad.addEventListener("pendown", () => say(message("penDown")));
  undo.addEventListener("click", () => pad.undo());
  redo.addEventListener("click", () => pad.redo());
  clear.addEventListener("click", () => pad.clear());
  save.addEventListener("click", download);
  keepAll.addEventListener("click", () => keep(keepEverything));
  penWidth.addEventListener("input", () => {
    pad.pen = Number(penWidth.value);
    changed();
  });
  const kept = restore();
  let first;
  try {
    const response = await fetch(new URL("models.json", import.meta.url), { cache: "no-cache" }); // it names the files' checksums
    const listed = await response.json();
    models = listed.models;
    if (IS_KOREAN) {
      for (const model of models) Object.assign(model, { title: model.ko.title, facts: { ...model.facts, ...model.ko.facts } });
    }
    first = models.find((model) => `#${model.name}` === location.hash); // playground.html#hanzi
    first ??= models.find((model) => model.name === kept.model) ?? models[0];
    offer(first);
    fill("speed", listed.speed.facts);
    tabulate(listed.speed.rows);
  } catch (error) {
    return fail(new Failure("list", String(error)));
  }
  try {
    recognizer = new Recognizer();
  } catch (error) {
    fail(error);
    app.replaceWith(status); // there is nothing to draw for
    return;
  }
  await choose(first, first.name === kept.model ? kept.pen : undefined);
}

start();
