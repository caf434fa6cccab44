// Draws the curves of runs: one chart a place, all over the same horizontal axis, with a cursor.

const { runs, charts } = JSON.parse(document.getElementById("data").textContent);
const HEIGHT = 230, LEFT = 52, RIGHT = 10, TOP = 10, BOTTOM = 26;
const AXES = { step: "steps", tokens: "tokens", elapsed_s: "time" };
const shown = runs.map(() => true);
let axis = "step";

/** A new SVG element. */
function svg(tag, properties, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(properties)) made.setAttribute(name, value);
  made.textContent = text;
  return made;
}

/** A new HTML element; text is always text. */
function element(tag, className, ...children) {
  const made = document.createElement(tag);
  made.className = className;
  made.append(...children);
  return made;
}

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const short = (value) =>
  Math.abs(value) >= 1e6 ? compact.format(value)
    : Math.abs(value) >= 1e3 ? Math.round(value).toLocaleString("en")
    : value !== 0 && Math.abs(value) < 1e-4 ? value.toExponential(1).replace("e-", "e−")
    : String(+value.toPrecision(3));
const percent = (value) => `${+(100 * value).toPrecision(3)} %`;
const precise = (value, format) =>
  format === "share"
    ? `${(100 * value).toFixed(1)} %`
    : Math.abs(value) >= 1e3
      ? Math.round(value).toLocaleString("en")
      : value !== 0 && Math.abs(value) < 0.01
        ? value.toExponential(2)
        : value.toFixed(3);

/** Seconds as a clock. */
function clock(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}
const place = (value) => (axis === "elapsed_s" ? clock(value) : Math.round(value).toLocaleString("en"));

/** Some five round numbers between two, or powers of ten. */
function ticks(low, high, log) {
  if (log) {
    const found = [];
    for (let power = Math.floor(low); power <= high; power++)
      for (const factor of high - low > 2 ? [1] : high - low > 0.8 ? [1, 3] : [1, 2, 5]) {
        const at = power + Math.log10(factor);
        if (at >= low && at <= high) found.push(at);
      }
    return found;
  }
  const rough = (high - low) / 4 || 1;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * [1, 2, 2.5, 5, 10].find((factor) => factor * unit >= rough * 0.999);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-6; at += step)
    found.push(Math.abs(at) < step * 1e-6 ? 0 : at);
  return found;
}

/** The lines of a chart as they are to be drawn now: points, colour, width, dashes. */
function series(chart) {
  const found = [];
  runs.forEach((run, index) => {
    if (chart.run === null ? !shown[index] : chart.run !== index) return;
    for (const split of ["train", "eval"])
      chart.metrics.forEach((metric, number) => {
        const columns = run[split];
        if (!columns[metric] || !columns[axis]) return;
        const points = columns[axis]
          .map((x, row) => [x, columns[metric][row]])
          .filter(([x, y]) => x !== null && y !== null && (!chart.log || y > 0));
        if (points.length) found.push({ points, split, ...look(chart, index, split, metric) });
      });
  });
  return found;
}

/** How a line looks: a colour for each run; of modules one for each layer. */
function look(chart, index, split, metric) {
  if (chart.run === null) {
    const words = split === "train" ? "train" : "held out";
    return {
      colour: `var(--run${index % 6})`,
      label: runs.length > 1 ? `${runs[index].name}, ${words}` : words,
      width: split === "train" ? 1.3 : 2.4,
      dashes: "none",
    };
  }
  const name = metric.slice(metric.indexOf("/") + 1);
  const layers = chart.metrics.map(layerOf).filter((layer) => layer >= 0);
  const layer = layerOf(metric);
  const share = layer / Math.max(1, ...layers);
  return {
    colour: layer < 0 ? "var(--ink)" : `hsl(${Math.round(215 - 190 * share)} 65% 52%)`,
    label: name,
    width: 1.6,
    dashes: layer >= 0 ? (name.endsWith("attention") ? "none" : "6 3")
      : name === "embeddings" ? "none" : `2 ${2 + chart.metrics.indexOf(metric) % 3}`,
  };
}

/** The layer a module is in; -1 outside of layers. */
function layerOf(metric) {
  const found = metric.match(/layers\.(\d+)\./);
  return found ? Number(found[1]) : -1;
}

/** A short piece of a line, for a key. */
function sample({ colour, width, dashes, split }) {
  const made = svg("svg", { viewBox: "0 0 32 12" });
  made.append(svg("line", {
    x1: 0, x2: 32, y1: 6, y2: 6, stroke: colour, "stroke-width": width + 0.6,
    "stroke-dasharray": dashes,
  }));
  if (split === "eval") made.append(svg("circle", { cx: 16, cy: 6, r: 4, fill: colour }));
  return made;
}

/** Draw one chart into its place, and let the cursor read it. */
function draw(box, chart) {
  const lines = series(chart);
  const height = (y) => (chart.log ? Math.log10(y) : y);
  const all = lines.flatMap(({ points }) => points);
  const wide = Math.max(260, box.clientWidth); // a unit is a pixel: text stays readable
  const picture = svg("svg", { viewBox: `0 0 ${wide} ${HEIGHT}`, role: "img" });
  const readout = element("p", "readout");
  const frame = element("div", "chart", picture);
  frame.tabIndex = 0;
  frame.setAttribute("aria-label", `${chart.title}; arrow keys read it`);
  box.replaceChildren(element("h3", "", chart.title), readout, frame);
  if (!all.length) return void readout.append("nothing to show");
  const spread = [...all.map(([, y]) => height(y)), ...chart.references.map((r) => height(r.value))];
  let low = Math.min(...spread), high = Math.max(...spread);
  if (!chart.log && low >= 0 && low < 0.35 * high) low = 0;
  if (low === high) [low, high] = [low - (Math.abs(low) || 1) * 0.1, high + (Math.abs(high) || 1) * 0.1];
  const first = Math.min(...all.map(([x]) => x), axis === "step" ? Infinity : 0);
  const end = Math.max(...all.map(([x]) => x), first + 1e-9);
  const across = (x) => LEFT + ((x - first) / (end - first)) * (wide - LEFT - RIGHT);
  const up = (y) => HEIGHT - BOTTOM - ((height(y) - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);

  for (const at of ticks(low, high, chart.log)) {
    const value = chart.log ? 10 ** at : at;
    picture.append(
      svg("line", { class: "grid", x1: LEFT, x2: wide - RIGHT, y1: up(value), y2: up(value) }),
      svg("text", { x: LEFT - 6, y: up(value) + 4, "text-anchor": "end" },
        chart.format === "share" ? percent(value) : short(value)),
    );
  }
  for (const at of ticks(first, end, false)) {
    const words = axis === "elapsed_s" ? clock(at) : short(at);
    const anchor = across(at) > wide - 40 ? "end" : "middle";
    picture.append(svg("text", { x: Math.min(across(at), wide), y: HEIGHT - 8, "text-anchor": anchor }, words));
  }
  const labels = chart.references.map(({ label, value }) => {
    const y = up(value);
    picture.append(svg("line", { class: "reference", x1: LEFT, x2: wide - RIGHT, y1: y, y2: y }));
    return svg("text", { x: wide - RIGHT, y: y < TOP + 14 ? y + 14 : y - 5, "text-anchor": "end" },
      `${label} ${chart.format === "share" ? percent(value) : short(value)}`);
  });
  for (const { colour, points, split, width, dashes } of lines) {
    picture.append(svg("polyline", {
      points: points.map(([x, y]) => `${across(x).toFixed(1)},${up(y).toFixed(1)}`).join(" "),
      stroke: colour, "stroke-width": width, "stroke-dasharray": dashes,
      opacity: split === "train" && chart.run === null ? 0.75 : 1,
    }));
    if (split === "eval" || points.length === 1)
      for (const [x, y] of points.length > 60 ? points.slice(-1) : points)
        picture.append(svg("circle", { cx: across(x), cy: up(y), r: 3, fill: colour }));
  }
  picture.append(...labels);
  if (chart.run !== null) box.append(element("div", "modules",
    ...lines.map((line) => element("span", "", sample(line), line.label))));
  read(frame, picture, readout, { chart, lines, first, end, wide, across, up });
}

/** Let pointer and arrow keys move a cursor over a chart, and say what stands there. */
function read(frame, picture, readout, { chart, lines, first, end, wide, across, up }) {
  const cursor = svg("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
  picture.append(cursor);
  const places = [...new Set(lines.flatMap(({ points }) => points.map(([x]) => x)))].sort((a, b) => a - b);
  let at = places.length - 1;
  const nearest = (points, x) =>
    points.reduce((best, point) => (Math.abs(point[0] - x) < Math.abs(best[0] - x) ? point : best));
  const show = (isCursor) => {
    const x = places[at];
    cursor.setAttribute("x1", across(x));
    cursor.setAttribute("x2", across(x));
    cursor.setAttribute("visibility", isCursor ? "visible" : "hidden");
    // Under the cursor what is near it; without one, where each line ends.
    const said = lines
      .map((line) => ({ ...line, at: isCursor ? nearest(line.points, x) : line.points.at(-1) }))
      .filter((line) => !isCursor || Math.abs(line.at[0] - x) <= 0.03 * (end - first))
      .map((line) => ({ ...line, y: line.at[1] }));
    if (chart.run !== null) said.sort((a, b) => b.y - a.y).splice(isCursor ? 4 : 1);
    const where = axis === "step" ? `step ${place(x)}` : place(x) + (axis === "tokens" ? " tokens" : "");
    readout.replaceChildren(
      element("span", "", `${isCursor ? where : "at last"}${chart.run === null ? "" : ", largest"}`),
      ...said.map(({ label, y }) =>
        element("span", "", `${label} `, element("b", "", precise(y, chart.format)))),
    );
  };
  const move = (event) => {
    const { left, width } = picture.getBoundingClientRect();
    const x = first + (((event.clientX - left) / width) * wide - LEFT) / (wide - LEFT - RIGHT) * (end - first);
    at = places.indexOf(nearest(places.map((p) => [p]), x)[0]);
    show(true);
  };
  frame.onpointermove = move;
  frame.onpointerdown = move;
  frame.onpointerleave = () => ((at = places.length - 1), show(false));
  frame.onblur = () => show(false);
  frame.onkeydown = ({ key }) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, Home: -places.length, End: places.length }[key];
    if (by === undefined) return true;
    at = Math.max(0, Math.min(places.length - 1, at + by));
    show(true);
    return false;
  };
  show(false);
}

/** Draw all charts anew, for the width there is. */
function drawAll() {
  for (const box of document.querySelectorAll("[data-chart]")) {
    const [part, number] = box.dataset.chart.split(":");
    draw(box, charts[part][Number(number)]);
  }
}

/** A button that stays pressed. */
function toggle(text, pressed, onclick, colour) {
  const made = element("button", "");
  if (colour) {
    const dot = element("span", "dot");
    dot.style.background = colour;
    made.append(dot);
  }
  made.append(text);
  made.type = "button";
  made.setAttribute("aria-pressed", pressed);
  made.onclick = onclick;
  return made;
}

/** Build the row of choices above the charts. */
function drawBar() {
  const axes = element("div", "axis", "over", ...Object.entries(AXES).map(([name, words]) =>
    toggle(words, name === axis, () => ((axis = name), drawBar(), drawAll()))));
  const parts = [axes];
  if (runs.length > 1)
    parts.push(element("div", "", ...runs.map((run, index) =>
      toggle(run.name, shown[index], () => ((shown[index] = !shown[index]), drawBar(), drawAll()),
        `var(--run${index % 6})`))));
  const plain = { colour: "currentColor", dashes: "none" };
  parts.push(element("div", "key",
    element("span", "", sample({ ...plain, width: 1.3, split: "train" }), "train"),
    element("span", "", sample({ ...plain, width: 2.4, split: "eval" }), "held out")));
  document.getElementById("bar").replaceChildren(...parts);
}

drawBar();
drawAll();
let drawnFor = innerWidth;
addEventListener("resize", () => {
  if (innerWidth !== drawnFor) drawAll();
  drawnFor = innerWidth;
});
