/**
 * The models: fetched once, checked, and kept on the device under the checksum of their content, so that a new edition of
 * the book fetches only those that have changed. The page and its worker use this module.
 *
 * @typedef {{
 *   name: string, title: string, lang: string, file: string, bytes: number, sha256: string, classes: string[],
 *   shape: number[], image: import("./preprocessing.js").ImageForm, pen: number, facts: Record<string, string>,
 *   ko: { title: string, facts: Record<string, string> }, told: boolean,
 *   scores: { temperature: number, rejector?: { weights: number[], hidden: number[][], output: number[] } },
 * }} Model  an entry of models.json, which the build writes
 */

/** Something that the reader is told; `reason` is a key of the page's messages. */
export class Failure extends Error {
  /** @param {string} reason @param {string} detail */
  constructor(reason, detail) {
    super(detail);
    this.reason = reason;
  }
}

/** @param {Model} model */
const address = (model) => new URL(`${model.file}?${model.sha256}`, import.meta.url).href;

export const SCOPE = new URL("../playground", import.meta.url).href; // of the service worker

/**
 * Where things are kept; undefined where the browser or the address allows nothing. Other books may share this origin.
 * @param {"" | " models"} which
 */
export async function openCache(which) {
  try {
    return await caches.open(`playground ${SCOPE}${which}`);
  } catch {
    return undefined;
  }
}

/** @param {Model} model */
export async function isKept(model) {
  return Boolean(await (await openCache(" models"))?.match(address(model)));
}

/**
 * @param {Model} model
 * @returns {Promise<Uint8Array<ArrayBuffer>>}  the network's file; rejected by a Failure where it is missing or damaged
 */
export async function fetchModel(model) {
  const url = address(model);
  const cache = await openCache(" models");
  let response = await cache?.match(url);
  const isNew = !response;
  try {
    response ??= await fetch(url);
  } catch (error) {
    throw new Failure("missing", String(error));
  }
  if (!response.ok) throw new Failure("missing", `${model.file}: ${response.status} ${response.statusText}`);
  const content = new Uint8Array(await response.arrayBuffer());
  const found = content.length === model.bytes ? await checksum(content) : `of ${content.length} bytes`;
  if (found && found !== model.sha256) {
    await cache?.delete(url);
    throw new Failure("damaged", `${model.file}: expected ${model.sha256} of ${model.bytes} bytes, found ${found}`);
  }
  if (cache && isNew) await keep(cache, url, content).catch(console.warn); // the device may be full
  return content;
}

/** @param {Cache} cache @param {string} url @param {BufferSource} content */
async function keep(cache, url, content) {
  await cache.put(url, new Response(content));
  const older = await cache.keys(url, { ignoreSearch: true });
  await Promise.all(older.filter((request) => request.url !== url).map((request) => cache.delete(request)));
}

/** @param {Uint8Array<ArrayBuffer>} content */
async function checksum(content) {
  if (!globalThis.crypto?.subtle) return ""; // browsers have it on https and on this machine alone
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
