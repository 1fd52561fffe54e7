/** Keeps the page for when there is no network: registers the service worker and tells of new versions. */

/**
 * @param {HTMLElement} note  says whether the page works offline
 * @param {HTMLElement} update  is shown when a new version is ready; holds the button that takes it
 */
export async function offline(note, update) {
  if (!("serviceWorker" in navigator)) {
    note.textContent = "This browser, or this address, does not let the page be kept for when you are offline.";
    return;
  }
  const script = new URL("../playground-service-worker.js", import.meta.url);
  const had = navigator.serviceWorker.controller !== null;
  navigator.serviceWorker.addEventListener("controllerchange", () => had && location.reload());
  try {
    const registration = await navigator.serviceWorker.register(script, { scope: new URL("../playground", import.meta.url).href });
    const offer = () => {
      if (!registration.waiting || !registration.active) return;
      update.hidden = false;
      update.querySelector("button")?.addEventListener("click", () => registration.waiting?.postMessage("take over"));
    };
    offer();
    registration.addEventListener("updatefound", () => registration.installing?.addEventListener("statechange", offer));
    const first = registration.active ? null : registration.installing;
    await Promise.race([navigator.serviceWorker.ready, ...(first ? [failure(first)] : [])]);
    note.textContent = "Kept on this device: the page works offline now.";
    note.dataset.ready = "true";
  } catch (error) {
    console.error(error);
    note.textContent = "The page could not be kept for when you are offline. It works while you are online.";
  }
}

/**
 * Wait for the failure of an installation, as that of a file that is missing or not the one that was published.
 * @param {ServiceWorker} worker
 */
function failure(worker) {
  return new Promise((_, reject) => {
    worker.addEventListener("statechange", () => worker.state === "redundant" && reject(new Error("not installed")));
  });
}
