/**
 * Starts the playground. No module, because a browser that has opened the page as a file runs scripts like this one
 * alone, and the reader shall be told so.
 */
(() => {
  /** @param {string} text @param {string[]} then  a command, and what follows it */
  const say = (text, ...then) => {
    const status = document.getElementById("playground-status");
    if (!status) return;
    status.dataset.kind = "error";
    status.textContent = text;
    for (const [i, part] of then.entries()) {
      const line = document.createElement(i ? "div" : "pre");
      line.textContent = part;
      status.append(line);
    }
    document.getElementById("playground-app")?.replaceWith(status);
  };
  const korean = document.documentElement.lang === "ko";
  const book = new URL("..", location.href); // of book/playground.html
  if (location.protocol === "file:") {
    let path = ".";
    try {
      path = decodeURIComponent(book.pathname);
    } catch {
      // a folder's name is no UTF-8
    }
    const isDrive = /^\/[A-Z]:/.test(path); // of Windows, whose shell knows double quotes alone
    const folder = isDrive ? `"${path.slice(1)}"` : `'${path.replace(/'/g, "'\\''")}'`;
    const command = `${isDrive ? "py" : "python3"} -m http.server --directory ${folder} 8000`;
    const address = `http://localhost:8000/${location.pathname.slice(book.pathname.length)}`;
    say(
      korean
        ? "이 페이지는 파일로 열렸으며, 브라우저는 서버에서 온 페이지에서만 네트워크를 실행합니다. " +
            `${path === "." ? "책이 있는 폴더의 " : ""}터미널에서 이 명령을 실행하세요:`
        : "This page was opened as a file, and browsers run networks only on pages that come from a server. " +
            `Run this command in a terminal${path === "." ? " that is in the book's folder" : ""}:`,
      command,
      korean ? `그다음에 브라우저에서 ${address} 주소를 여세요.` : `Then open ${address} in the browser.`,
    );
    return;
  }
  import("./playground.js").catch((error) => {
    console.error(error);
    say(
      korean
        ? "놀이터가 시작되지 않았습니다. 스크립트 하나가 없거나 손상되었거나, 브라우저가 너무 오래되었습니다. 인터넷에 연결하여 페이지를 다시 여세요."
        : "The playground did not start: one of its scripts is missing or damaged, or this browser is too old. Go online and reload the page.",
    );
  });
})();
