/**
 * Keeps the playground on the device. The build puts the list of its files here, with their checksums; a change of any
 * of them is a new version of this script, which the browser installs beside the old one.
 */

/** @type {{ page: string, always: Record<string, string>, relaxed: Record<string, string>, compatible: Record<string, string> }} */
const FILES = /* written by the build */ { page: "", always: {}, relaxed: {}, compatible: {} };
const VERSION = /* written by the build */ "";
const PREFIX = `playground ${new URL(".", self.location.href).pathname} `; // other books may share this origin
const CACHE = PREFIX + VERSION;

const worker = /** @type {ServiceWorkerGlobalScope} */ (/** @type {unknown} */ (self));

// () => void: drops i8x16.relaxed_swizzle of two vectors of zeros. LiteRT has a WebAssembly for browsers that know it.
const RELAXED_SIMD = new Uint8Array([
  ...[0, 97, 115, 109, 1, 0, 0, 0], // magic number and version
  ...[1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 10, 16, 1, 14, 0], // one type, one function, its body of 14 bytes
  ...[65, 0, 253, 15, 65, 0, 253, 15, 253, 128, 2, 26, 11],
]);

async function install() {
  const cache = await caches.open(CACHE);
  const files = { ...FILES.always, ...(WebAssembly.validate(RELAXED_SIMD) ? FILES.relaxed : FILES.compatible) };
  // with the checksums a half-published update fails as a whole, and is tried again another day
  const requests = Object.entries(files).map(([url, integrity]) => new Request(url, { integrity, cache: "no-cache" }));
  await cache.addAll(requests);
}

worker.addEventListener("install", (event) => event.waitUntil(install()));

worker.addEventListener("activate", (event) =>
  event.waitUntil(
    (async () => {
      const old = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== CACHE);
      await Promise.all(old.map((name) => caches.delete(name)));
      await worker.clients.claim();
    })(),
  ),
);

worker.addEventListener("message", (event) => {
  if (event.data === "take over") event.waitUntil(worker.skipWaiting());
});

worker.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || new URL(request.url).origin !== worker.location.origin) return;
  event.respondWith(
    (async () => {
      const cache = await caches.open(CACHE);
      const kept = await cache.match(request.mode === "navigate" ? FILES.page : request);
      return kept ?? fetch(request);
    })(),
  );
});
