/**
 * Starts the playground. No module, because a browser that has opened the page as a file runs scripts like this one
 * alone, and the reader shall be told so.
 */
(() => {
  /** @param {string} text */
  const say = (text) => {
    const status = document.getElementById("playground-status");
    if (!status) return;
    status.dataset.kind = "error";
    status.textContent = text;
    document.getElementById("playground-app")?.replaceWith(status);
  };
  const book = new URL("..", location.href); // of book/playground.html
  if (location.protocol === "file:") {
    const folder = decodeURIComponent(book.pathname).replace(/^\/(?=[A-Z]:)/, "");
    say(
      "This page was opened as a file, and browsers run networks only on pages that come from a server. " +
        `Run this command in a terminal: python3 -m http.server --directory "${folder}" 8000. ` +
        `Then open http://localhost:8000/${location.pathname.slice(book.pathname.length)} in the browser.`,
    );
    return;
  }
  import("./playground.js").catch((error) => {
    console.error(error);
    say("The playground did not start: one of its scripts is missing or damaged, or this browser is too old. Go online and reload the page.");
  });
})();
