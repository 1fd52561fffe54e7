/** Keeps the page on the device, for when there is no network; the worker keeps the models. */

import { SCOPE, openCache } from "./models.js";

const VERSION = new URL("version.json", import.meta.url);
// That of this page: an open tab may outlive its edition, and must not call what it keeps the next one.
const version = fetch(VERSION, { cache: "no-cache" }).then((response) => (response.ok ? response.text() : Promise.reject(response)));
version.catch(() => {}); // there is no network: what was kept stays as it is

/** Whether this browser, at this address, can keep a page: only one that comes by https, or from this very machine. */
export const canKeep = "serviceWorker" in navigator && "caches" in globalThis;

/**
 * Keep all that the page and its worker have loaded, and let the service worker answer with it when there is no network.
 * The browser has just fetched it, so nothing is fetched again.
 *
 * @param {string[]} files  that the worker has loaded
 */
export async function keepPage(files) {
  await navigator.serviceWorker.register(new URL("../playground-service-worker.js", import.meta.url), { scope: SCOPE });
  const cache = await openCache("");
  if (!cache) throw new Error("this browser keeps nothing for this address");
  const wanted = new Set([location.href, ...performance.getEntriesByType("resource").map((entry) => entry.name), ...files]);
  const own = [...wanted].filter((url) => url.startsWith(location.origin) && !url.includes("/models/") && url !== VERSION.href);
  const urls = new Set(own.map((url) => url.replace(/#.*/, "")));
  await Promise.all(
    Array.from(urls, async (url) => {
      if (await cache.match(url)) return;
      const response = await fetch(url, { cache: "force-cache" });
      if (response.ok) await cache.put(url, response); // what the server does not have, the page did without
    }),
  );
  await cache.put(VERSION, new Response(await version));
  await navigator.serviceWorker.ready;
}
