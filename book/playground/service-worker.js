/**
 * Answers for the playground when there is no network, with what the page has kept (offline.js). With a network the page
 * is always the published one.
 *
 * At each visit it asks for version.json. Where that differs from the kept one, all that was kept is dropped, and the
 * page keeps the new edition as a whole. Where the book publishes none any more, this worker goes, with all that it kept.
 */

const worker = /** @type {ServiceWorkerGlobalScope} */ (/** @type {unknown} */ (self));
const SCOPE = new URL("playground", worker.location.href).href;
const CACHE = `playground ${SCOPE}`;
const VERSION = new URL("playground-app/version.json", worker.location.href).href;
const PATIENCE = 3000; // milliseconds

/** @param {(name: string) => boolean} which */
async function drop(which) {
  const names = (await caches.keys()).filter(which);
  await Promise.all(names.map((name) => caches.delete(name)));
}

async function ask() {
  const found = await fetch(VERSION, { cache: "no-store" });
  if ([404, 410].includes(found.status)) {
    await drop((name) => name.startsWith(CACHE)); // the models too
    await worker.registration.unregister();
  } else if (found.ok) {
    const kept = await (await caches.open(CACHE)).match(VERSION);
    if (kept && (await kept.text()) !== (await found.text())) await caches.delete(CACHE);
  }
}

/**
 * What the network gives; what was kept where there is none, where it fails, and where it takes long.
 * @param {Request} request
 */
async function answer(request) {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(request, { ignoreSearch: request.mode === "navigate" });
  const published = fetch(request);
  if (!kept) return published;
  /** @type {Promise<Response>} */
  const late = new Promise((resolve) => setTimeout(resolve, PATIENCE, kept));
  return Promise.race([published.then((response) => (response.status < 500 ? response : kept), () => kept), late]);
}

worker.addEventListener("install", () => worker.skipWaiting());

worker.addEventListener("activate", (event) => {
  // older editions of this book called their caches by the folder's path and a version
  const old = `playground ${new URL(".", worker.location.href).pathname} `;
  event.waitUntil(Promise.all([drop((name) => name.startsWith(old)), worker.clients.claim()]));
});

worker.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || new URL(request.url).origin !== worker.location.origin) return;
  if (request.mode === "navigate") event.waitUntil(ask().catch(() => {})); // there is no network
  event.respondWith(answer(request));
});
