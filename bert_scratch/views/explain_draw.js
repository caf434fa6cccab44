// What the page draws with: arrays unpacked, elements, colours, heat maps, lines.

const data = JSON.parse(document.getElementById("data").textContent);

/** An array packed by Python: 16-bit steps between its least and largest value. */
class Values {
  constructor({ shape, low, high, data }) {
    const bytes = atob(data);
    const step = (high - low) / 65535;
    this.shape = shape;
    this.low = low;
    this.high = high;
    this.flat = new Float32Array(bytes.length / 2);
    for (let i = 0; i < this.flat.length; i++) {
      this.flat[i] = low + step * (bytes.charCodeAt(2 * i) + 256 * bytes.charCodeAt(2 * i + 1));
    }
  }

  /** The number at some indices, one for each dimension. */
  at(...indices) {
    return this.flat[this.place(indices)];
  }

  /** The values below some first indices, flat. */
  below(...indices) {
    const size = this.shape.slice(indices.length).reduce((a, b) => a * b, 1);
    const start = this.place([...indices, ...this.shape.slice(indices.length).fill(0)]);
    return this.flat.subarray(start, start + size);
  }

  place(indices) {
    return indices.reduce((total, index, dimension) => total * this.shape[dimension] + index, 0);
  }
}

/** A new element; text is always text, never HTML. */
function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

const byId = (name) => document.getElementById(name);
const percent = (share) => `${(100 * share).toFixed(share >= 0.0995 ? 0 : 1)} %`;
const signed = (value) =>
  Math.abs(value) < 0.005 ? "0" : `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;

const mix = (from, to, share) => from.map((value, i) => Math.round(value + (to[i] - value) * share));
const css = (colour) => `rgb(${colour.join(" ")})`;
const NUM_SHADES = 512;
let colours = {};

/** Take over the colours of the page as it looks now. */
function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["none", "some", "all", "against"]) {
    const hex = style.getPropertyValue(`--${name}`).trim();
    colours[name] = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  }
  // By the root of the share: small shares are told apart too.
  colours.shades = Array.from({ length: NUM_SHADES + 1 }, (_, i) => {
    const height = Math.sqrt(i / NUM_SHADES);
    return height < 0.5
      ? mix(colours.none, colours.some, 2 * height)
      : mix(colours.some, colours.all, 2 * height - 1);
  });
}

/** A share of 0 to 1 as a colour. */
const shade = (share) => colours.shades[Math.round(Math.min(Math.max(share, 0), 1) * NUM_SHADES)];

/** A value of -1 to 1 as a colour. */
function signedShade(value) {
  return mix(colours.none, value < 0 ? colours.against : colours.some, Math.min(Math.abs(value), 1));
}

/** Black or white letters, whichever can be read on a colour. */
function ink([red, green, blue]) {
  return 0.299 * red + 0.587 * green + 0.114 * blue > 140 ? "#15181c" : "#fff";
}

/** Draw one square a value, without labels: a map of a head in the overview. */
function drawMap(canvas, values, size) {
  canvas.width = canvas.height = size;
  const context = canvas.getContext("2d");
  const image = context.createImageData(size, size);
  values.forEach((value, i) => {
    const [red, green, blue] = shade(value);
    image.data[4 * i] = red;
    image.data[4 * i + 1] = green;
    image.data[4 * i + 2] = blue;
    image.data[4 * i + 3] = 255;
  });
  context.putImageData(image, 0, 0);
}

/**
 * Fill a place with a heat map.
 * rows, columns: labels. values: flat. low, high: the ends of the colours. chosenRow, chosenColumn:
 * what is marked. say(row, column): what the line below reads. pick(row, column): on a click.
 */
function heatMap(place, options) {
  const { rows, columns, values, low = 0, high = 1, say, pick } = options;
  const labels = element("div", { className: "heat-rows" });
  const heads = element("div", { className: "heat-columns" });
  const canvas = element("canvas", { role: "img", ariaLabel: options.label });
  const note = element("p", { className: "faint heat-note" });
  const widest = Math.min(Math.max(...rows.map((row) => row.length)), 14) * 8 + 12;
  const room = (place.clientWidth - widest - 4) / columns.length;
  const cell = Math.floor(Math.min(Math.max(room, 10), options.largest ?? 26));
  const mark = (holder, texts, chosen) =>
    texts.forEach((text, i) =>
      holder.append(element("span", { className: i === chosen ? "chosen" : "" }, text)));
  mark(labels, rows, options.chosenRow);
  mark(heads, columns, options.chosenColumn);
  const box = element("div", { className: "heat" }, element("i"), heads, labels, canvas);
  box.style.setProperty("--cell", `${cell}px`);
  const scrolled = place.firstChild?.scrollLeft ?? 0;
  place.replaceChildren(element("div", { className: "wide" }, box), note);
  place.firstChild.scrollLeft = scrolled;

  const scale = window.devicePixelRatio || 1;
  canvas.style.width = `${cell * columns.length}px`;
  canvas.style.height = `${cell * rows.length}px`;
  canvas.width = cell * columns.length * scale;
  canvas.height = cell * rows.length * scale;
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  values.forEach((value, i) => {
    const [row, column] = [Math.floor(i / columns.length), i % columns.length];
    context.fillStyle = css(shade((value - low) / (high - low || 1)));
    context.fillRect(column * cell, row * cell, cell - 0.5, cell - 0.5);
  });
  if (options.chosenRow !== undefined) {
    context.strokeStyle = css(colours.against);
    context.lineWidth = 2;
    context.strokeRect(1, options.chosenRow * cell + 0.5, cell * columns.length - 2, cell - 1.5);
  }
  const found = (event) => {
    const box = canvas.getBoundingClientRect();
    const row = Math.floor((event.clientY - box.top) / cell);
    const column = Math.floor((event.clientX - box.left) / cell);
    return [Math.min(Math.max(row, 0), rows.length - 1), Math.min(Math.max(column, 0), columns.length - 1)];
  };
  const rest = options.rest ?? `from ${low.toFixed(2)} (faint) to ${high.toFixed(2)} (strong)`;
  note.textContent = rest;
  canvas.onpointermove = (event) => (note.textContent = say(...found(event)));
  canvas.onpointerleave = () => (note.textContent = rest);
  canvas.onclick = (event) => {
    if (pick) pick(...found(event));
    else note.textContent = say(...found(event));
  };
}

const SVG = "http://www.w3.org/2000/svg";

function svgElement(tag, attributes, text = "") {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = text;
  return made;
}

/**
 * Fill a place with two columns of tokens and a line for each weight between them.
 * weights: flat. chosen: the row that stands out. pick(row): on a click on the left.
 */
function lineMap(place, { tokens, weights, chosen, pick }) {
  const [row, width, side] = [24, 460, 150];
  const height = row * tokens.length + 8;
  const picture = svgElement("svg", { viewBox: `0 0 ${width} ${height}`, class: "lines" });
  const middle = (index) => index * row + row / 2 + 4;
  const size = tokens.length;
  const paths = [];
  for (let i = 0; i < weights.length; i++) {
    const [from, to] = [Math.floor(i / size), i % size];
    const own = from === chosen;
    if (weights[i] < (own ? 0.005 : 0.04)) continue;
    const path = svgElement("path", {
      d: `M${side} ${middle(from)} C${width / 2} ${middle(from)} ${width / 2} ${middle(to)} ${width - side} ${middle(to)}`,
      class: own ? "own" : "other",
      "stroke-opacity": own ? 0.15 + 0.85 * weights[i] : 0.35 * weights[i],
      "stroke-width": own ? 1 + 5 * weights[i] : 1 + 2 * weights[i],
    });
    paths.push([own, path]);
  }
  paths.sort((a, b) => a[0] - b[0]).forEach(([, path]) => picture.append(path));
  const short = (text) => (text.length > 16 ? `${text.slice(0, 15)}…` : text);
  tokens.forEach((token, index) => {
    const weight = weights[chosen * size + index];
    const left = svgElement("g", { class: index === chosen ? "left chosen" : "left" });
    left.append(
      svgElement("rect", { x: 0, y: middle(index) - row / 2 + 1, width: side - 4, height: row - 2, rx: 4 }),
      svgElement("text", { x: side - 12, y: middle(index) + 5, "text-anchor": "end" }, short(token)));
    left.onclick = () => pick(index);
    const right = svgElement("g", { class: "right" });
    right.append(
      svgElement("rect", { x: width - side + 4, y: middle(index) - row / 2 + 1, width: side - 4,
        height: row - 2, rx: 4, "fill-opacity": Math.min(1, weight) }),
      svgElement("text", { x: width - side + 12, y: middle(index) + 5 }, short(token)),
      svgElement("text", { x: width - 6, y: middle(index) + 5, "text-anchor": "end", class: "share" },
        weight >= 0.005 ? percent(weight) : ""));
    picture.append(left, right);
  });
  place.replaceChildren(picture);
}
