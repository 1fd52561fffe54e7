/** What the page tells the reader, in the page's language. Names in braces stand for values. */

const ENGLISH = {
  unsupported: "This browser cannot run the networks: it has no WebAssembly with SIMD, or no Web Workers. All browsers of recent years have both.",
  runtime: "The networks cannot run here: LiteRT did not start. Reload the page; you need a browser of recent years.",
  missing: "The file of the model “{title}” is missing or cannot be reached. Go online and reload the page, or choose another model.",
  damaged: "The file of the model “{title}” is damaged: it is not the one that this page was made with. Reload the page, or choose another model.",
  list: "The list of models is missing or damaged. Go online and reload the page.",
  loading: "Loading …",
  loadingModel: "Loading “{title}” …",
  draw: "Draw a character on the pad.",
  penDown: "The pen is down.",
  likely: "Most likely: {character}, {share}.",
  best: "Most likely: {character}.", // of a model whose scores do not hold on real images
  several: "Several characters? Draw one.",
  unlikely: "No candidate is likely. These are guesses; a clearer drawing may help.",
  candidate: "{character} {share}, candidate {place}: copy", // what is seen comes first: whoever speaks to the computer says that
  guess: "{character}, candidate {place}: copy",
  copied: "{character} is copied.",
  notCopied: "The browser does not allow copying {character} here.",
  kept: "Kept on this device, and ready for when you are offline: the page, and the model {titles}.",
  keptSeveral: "Kept on this device, and ready for when you are offline: the page, and the models {titles}.",
  notKept: "The page could not be kept for when you are offline. It works while you are online.",
  cannotKeep: "This browser, or this address, does not let the page be kept for when you are offline.",
};

/** @type {typeof ENGLISH} */
const KOREAN = {
  unsupported: "이 브라우저에서는 네트워크를 실행할 수 없습니다. SIMD가 있는 WebAssembly나 Web Worker가 없습니다. 최근 몇 년 사이의 브라우저에는 모두 둘 다 있습니다.",
  runtime: "여기에서는 네트워크를 실행할 수 없습니다. LiteRT가 시작되지 않았습니다. 페이지를 다시 여세요. 최근 몇 년 사이의 브라우저가 필요합니다.",
  missing: "“{title}” 모델의 파일이 없거나 닿을 수 없습니다. 인터넷에 연결하여 페이지를 다시 열거나, 다른 모델을 고르세요.",
  damaged: "“{title}” 모델의 파일이 손상되었습니다. 이 페이지와 함께 만들어진 파일이 아닙니다. 페이지를 다시 열거나, 다른 모델을 고르세요.",
  list: "모델의 목록이 없거나 손상되었습니다. 인터넷에 연결하여 페이지를 다시 여세요.",
  loading: "불러오는 중 …",
  loadingModel: "“{title}” 모델을 불러오는 중 …",
  draw: "판에 글자를 하나 그리세요.",
  penDown: "펜이 내려져 있습니다.",
  likely: "가장 그럴듯한 글자: {character}, {share}.",
  best: "가장 그럴듯한 글자: {character}.",
  several: "여러 글자인가요? 한 글자만 그리세요.",
  unlikely: "그럴듯한 후보가 없습니다. 아래는 추측일 뿐이니, 더 또렷하게 다시 그려 보세요.",
  candidate: "{character} {share}, 후보 {place}: 복사",
  guess: "{character}, 후보 {place}: 복사",
  copied: "{character} 글자를 복사했습니다.",
  notCopied: "브라우저가 여기에서 {character} 글자를 복사하는 것을 허락하지 않습니다.",
  kept: "이 기기에 보관되어 오프라인에서도 쓸 수 있는 것: 페이지와 {titles} 모델.",
  keptSeveral: "이 기기에 보관되어 오프라인에서도 쓸 수 있는 것: 페이지와 {titles} 모델.",
  notKept: "오프라인용으로 페이지를 보관하지 못했습니다. 인터넷에 연결된 동안에는 작동합니다.",
  cannotKeep: "이 브라우저나 이 주소에서는 오프라인용으로 페이지를 보관할 수 없습니다.",
};

export const IS_KOREAN = document.documentElement.lang === "ko";
const MESSAGES = IS_KOREAN ? KOREAN : ENGLISH;

/**
 * @param {string} key of the messages
 * @param {Record<string, string | number>} [values]
 */
export function message(key, values = {}) {
  const text = MESSAGES[/** @type {keyof typeof ENGLISH} */ (key)];
  return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}
