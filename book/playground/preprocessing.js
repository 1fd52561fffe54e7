/**
 * From the strokes of a pen to what a network takes: hwr_utils/device/canvas.py and preprocessing.py in
 * JavaScript. A test compares both, pixel by pixel; whoever changes one changes the other.
 *
 * A picture is white on black, row by row, with its height and width.
 * @typedef {{ pixels: Uint8Array, height: number, width: number }} Picture
 * @typedef {[number, number][]} Stroke  points (x, y) in 0..1 of the pad, y downwards
 * @typedef {{ size: number, margin: number, centre: "box" | "mass" }} ImageForm  as model.json says it
 */

const SIDE = 128; // pixels of the drawn picture
const EDGE = 2; // pixels left free around the ink
const SMALLEST = 0.02; // of the pad: what is smaller is a dot and is not blown up to a character
const INK = 64; // the level above which a pixel counts as ink when the character is cropped
const [WIDE, GAP, PIECE] = [1.5, 0.1, 0.5]; // of the ink's height: least width of several characters, of a gap, and height

/** @param {number} value @param {number} low @param {number} high */
const clip = (value, low, high) => Math.min(Math.max(value, low), high);

/**
 * Draw strokes in the middle of a picture, as large as fits, with a round pen.
 * @param {Stroke[]} strokes
 * @param {number} pen  its width as a part of the longer side of the ink
 * @param {number} side  of the picture in pixels
 * @returns {Picture}
 */
export function draw(strokes, pen, side = SIDE) {
  const picture = new Float64Array(side * side);
  const points = strokes.flat();
  if (points.length) {
    const box = side - 2 * EDGE;
    const radius = (pen * box) / 2;
    const low = [Infinity, Infinity];
    const high = [-Infinity, -Infinity];
    for (const point of points) {
      for (const axis of [0, 1]) {
        low[axis] = Math.min(low[axis], point[axis]);
        high[axis] = Math.max(high[axis], point[axis]);
      }
    }
    const longer = Math.max(high[0] - low[0], high[1] - low[1], SMALLEST);
    const scale = (box - 2 * radius) / longer;
    const middle = [(low[0] + high[0]) / 2, (low[1] + high[1]) / 2];
    for (const stroke of strokes) {
      const placed = stroke.map(([x, y]) => [(x - middle[0]) * scale + side / 2, (y - middle[1]) * scale + side / 2]);
      for (let i = 0; i < Math.max(placed.length - 1, Math.min(placed.length, 1)); i++) {
        ink(picture, side, placed[i], placed[i + 1] ?? placed[i], radius);
      }
    }
  }
  return { pixels: Uint8Array.from(picture, (value) => Math.floor(value * 255 + 0.5)), height: side, width: side };
}

/**
 * Ink the pixels around the line from a to b: fully within the radius, less over the one pixel at the rim.
 * @param {Float64Array} picture
 * @param {number} side
 * @param {number[]} a
 * @param {number[]} b
 * @param {number} radius
 */
function ink(picture, side, [ax, ay], [bx, by], radius) {
  const reach = radius + 1;
  const [left, right] = [Math.min(ax, bx) - reach, Math.max(ax, bx) + reach + 1].map((v) => Math.trunc(clip(v, 0, side)));
  const [top, bottom] = [Math.min(ay, by) - reach, Math.max(ay, by) + reach + 1].map((v) => Math.trunc(clip(v, 0, side)));
  const dx = bx - ax;
  const dy = by - ay;
  const length = dx * dx + dy * dy;
  for (let row = top; row < bottom; row++) {
    const y = row + 0.5;
    for (let column = left; column < right; column++) {
      const x = column + 0.5;
      const along = length > 0 ? clip(((x - ax) * dx + (y - ay) * dy) / length, 0, 1) : 0;
      const offX = x - (ax + along * dx);
      const offY = y - (ay + along * dy);
      const coverage = clip(radius + 0.5 - Math.sqrt(offX * offX + offY * offY), 0, 1);
      const place = row * side + column;
      if (coverage > picture[place]) picture[place] = coverage;
    }
  }
}

/**
 * Crop a picture to its ink and fit that, keeping its shape, into the middle of a square.
 * @param {Picture} image
 * @param {number} size  pixels a side of the result
 * @param {number} margin  pixels left free on each side
 * @returns {Picture}
 */
export function toSquare(image, size, margin) {
  const square = { pixels: new Uint8Array(size * size), height: size, width: size };
  let [first, last, left, right] = [image.height, -1, image.width, -1];
  for (let row = 0; row < image.height; row++) {
    for (let column = 0; column < image.width; column++) {
      if (image.pixels[row * image.width + column] > INK) {
        first = Math.min(first, row);
        last = row;
        left = Math.min(left, column);
        right = Math.max(right, column);
      }
    }
  }
  if (last < 0) return square;
  const crop = { pixels: new Uint8Array((last - first + 1) * (right - left + 1)), height: last - first + 1, width: right - left + 1 };
  for (let row = 0; row < crop.height; row++) {
    const from = (first + row) * image.width + left;
    crop.pixels.set(image.pixels.subarray(from, from + crop.width), row * crop.width);
  }
  const scale = (size - 2 * margin) / Math.max(crop.height, crop.width);
  const height = Math.max(1, Math.floor(crop.height * scale + 0.5));
  const width = Math.max(1, Math.floor(crop.width * scale + 0.5));
  const scaled = resize(crop, height, width);
  const [top, start] = [Math.floor((size - height) / 2), Math.floor((size - width) / 2)];
  for (let row = 0; row < height; row++) {
    square.pixels.set(scaled.pixels.subarray(row * width, (row + 1) * width), (top + row) * size + start);
  }
  return square;
}

/**
 * Does a picture show several characters side by side?
 * @param {Picture} image
 * @param {string[]} classes  the characters that are known: Latin letters and digits have no parts side by side, as い has
 */
export function isSeveral({ pixels, height, width }, classes) {
  const isInk = (/** @type {number} */ row, /** @type {number} */ column) => pixels[row * width + column] > INK;
  const rows = [...Array(height).keys()];
  const columns = [...Array(width).keys()].filter((column) => rows.some((row) => isInk(row, column)));
  const tall = (/** @type {number[]} */ some) => {
    const inked = rows.filter((row) => some.some((column) => isInk(row, column)));
    return inked[inked.length - 1] - inked[0] + 1;
  };
  const wide = classes.every((one) => /^[A-Za-z0-9]+$/.test(one)) ? 0 : WIDE;
  if (!columns.length || columns[columns.length - 1] - columns[0] + 1 < wide * tall(columns)) return false;
  return columns.some((column, place) => {
    if (!place || column - columns[place - 1] - 1 < GAP * tall(columns)) return false;
    return Math.min(tall(columns.slice(0, place)), tall(columns.slice(place))) >= PIECE * tall(columns);
  });
}

/**
 * Scale a picture: linear between pixels when it grows, averaging when it shrinks.
 * @param {Picture} image
 * @param {number} height
 * @param {number} width
 * @returns {Picture}
 */
export function resize(image, height, width) {
  const values = between(image.pixels, image.height, image.width, triangle(image.height, height), triangle(image.width, width));
  return { pixels: Uint8Array.from(values, (value) => Math.floor(value + 0.5)), height, width };
}

/**
 * The weights of a triangle filter, scaled to the larger of input and output pixels: for each output those of all inputs.
 * @param {number} old
 * @param {number} fresh
 */
function triangle(old, fresh) {
  const step = old / fresh;
  return Array.from({ length: fresh }, (_, index) => {
    const centre = (index + 0.5) * step;
    const row = Float64Array.from({ length: old }, (_, j) => Math.max(1 - Math.abs(j + 0.5 - centre) / Math.max(step, 1), 0));
    const sum = row.reduce((a, b) => a + b, 0);
    return row.map((weight) => weight / sum);
  });
}

/**
 * The weights of linear interpolation between pixel centres, edges repeated.
 * @param {number} old
 * @param {number} fresh
 */
function bilinear(old, fresh) {
  return Array.from({ length: fresh }, (_, index) => {
    const place = clip(((index + 0.5) * old) / fresh - 0.5, 0, old - 1);
    return Float64Array.from({ length: old }, (_, j) => Math.max(1 - Math.abs(place - j), 0));
  });
}

/**
 * Multiply a picture by weights of its rows and of its columns.
 * @param {ArrayLike<number>} pixels
 * @param {number} height
 * @param {number} width
 * @param {Float64Array[]} rows  one of `height` weights for each row of the result
 * @param {Float64Array[]} columns
 */
function between(pixels, height, width, rows, columns) {
  const wide = new Float64Array(rows.length * width);
  rows.forEach((weights, row) => {
    for (let i = 0; i < height; i++) {
      if (weights[i] === 0) continue;
      for (let column = 0; column < width; column++) wide[row * width + column] += weights[i] * pixels[i * width + column];
    }
  });
  const values = new Float64Array(rows.length * columns.length);
  columns.forEach((weights, column) => {
    for (let i = 0; i < width; i++) {
      if (weights[i] === 0) continue;
      for (let row = 0; row < rows.length; row++) values[row * columns.length + column] += weights[i] * wide[row * width + i];
    }
  });
  return values;
}

/**
 * Move a square picture by whole pixels until its centre of mass is in the middle; no ink leaves it.
 * @param {Picture} image
 * @returns {Picture}
 */
export function centreMass(image) {
  const side = image.width;
  const [down, right] = [0, 1].map((axis) => {
    const sums = new Float64Array(side);
    image.pixels.forEach((value, place) => (sums[axis ? place % side : Math.floor(place / side)] += value));
    const total = sums.reduce((a, b) => a + b, 0);
    if (total === 0) return 0;
    const wanted = (side - 1) / 2 - sums.reduce((sum, value, place) => sum + value * place, 0) / total;
    const firstInk = sums.findIndex((value) => value > 0);
    const lastInk = sums.findLastIndex((value) => value > 0);
    return Math.min(Math.max(Math.floor(wanted + 0.5), -firstInk), side - 1 - lastInk);
  });
  const moved = new Uint8Array(image.pixels.length);
  for (let row = Math.max(0, -down); row < Math.min(side, side - down); row++) {
    for (let column = Math.max(0, -right); column < Math.min(side, side - right); column++) {
      moved[(row + down) * side + column + right] = image.pixels[row * side + column];
    }
  }
  return { pixels: moved, height: side, width: side };
}

/**
 * Strokes in the form of a data set's images.
 * @param {Stroke[]} strokes
 * @param {number} pen
 * @param {ImageForm} form
 */
export function prepare(strokes, pen, form) {
  const image = toSquare(draw(strokes, pen), form.size, form.margin);
  const strongest = Math.max(...image.pixels, 1); // a thin pen would fade
  image.pixels = image.pixels.map((value) => Math.floor((value * 255) / strongest + 0.5));
  return form.centre === "mass" ? centreMass(image) : image;
}

/**
 * A prepared picture as what a network takes: 0 is paper and 1 is ink.
 * @param {Picture} image
 * @param {number[]} shape  [1, 1, height, width]
 */
export function toInput(image, [, , height, width]) {
  const share = Float64Array.from(image.pixels, (value) => value / 255);
  const values = between(share, image.height, image.width, bilinear(image.height, height), bilinear(image.width, width));
  return Float32Array.from(values);
}
