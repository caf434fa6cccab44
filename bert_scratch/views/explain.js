// What the page shows: one state, and a panel for each part that follows it.

const { tokens } = data;
const { layers: NUM_LAYERS, heads: NUM_HEADS } = data.shape;
const SIZE = tokens.length;
const unpack = (group) =>
  Object.fromEntries(Object.entries(group).map(([name, array]) => [name, new Values(array)]));
const attention = new Values(data.attention);
const rollout = new Values(data.rollout);
const statistics = unpack(data.statistics);
const geometry = unpack(data.geometry);
const guesses = ({ names, scores, probability, ...rest }) => ({
  names, scores: new Values(scores), probability: probability && new Values(probability), ...rest,
});
const nearest = guesses(data.nearest);
const lenses = data.hidden && { hidden: guesses(data.hidden), shown: guesses(data.shown) };
const { positions: pathPositions, ...attributionArrays } = data.attribution ?? {};
const attribution = unpack(attributionArrays);
const layerNames = ["embeddings", ...Array.from({ length: NUM_LAYERS }, (_, i) => `layer ${i + 1}`)];

const state = {
  token: data.masks[0] ?? Math.min(1, SIZE - 1),
  layer: NUM_LAYERS - 1,
  head: 0,
  colouring: "maps",
  view: "lines",
  lens: "hidden",
  depth: NUM_LAYERS,
};

/** Change the state and draw what follows what has changed. */
function choose(changes) {
  Object.assign(state, changes);
  const names = Object.keys(changes);
  for (const [draw, follows] of PANELS) {
    if (follows.some((name) => names.includes(name))) draw();
  }
  document.dispatchEvent(new CustomEvent("chosen", { detail: changes }));
}

/** Give the focus to one of several buttons; only that one is reached with the Tab key. */
function rove(buttons, chosen) {
  buttons.forEach((button, i) => (button.tabIndex = i === chosen ? 0 : -1));
}

// Tokens

const tokenButtons = tokens.map((token, index) =>
  element("button", {
    type: "button",
    className: [data.special[index] && "special", data.masks.includes(index) && "mask",
      data.segments[index] && "second"].filter(Boolean).join(" "),
    title: `token ${index}`,
    onclick: () => choose({ token: index }),
  }, token));
byId("tokens").append(...tokenButtons);

function drawTokens() {
  rove(tokenButtons, state.token);
  tokenButtons.forEach((button, index) =>
    button.setAttribute("aria-pressed", String(index === state.token)));
  const bar = byId("tokens");
  const chosen = tokenButtons[state.token];
  bar.scrollTo({ left: chosen.offsetLeft - bar.clientWidth / 2 + chosen.clientWidth / 2 });
}

// Attention

const headButtons = [];
for (let layer = 0; layer < NUM_LAYERS; layer++) {
  const row = element("div", { role: "row" }, element("span", { className: "faint" }, String(layer + 1)));
  for (let head = 0; head < NUM_HEADS; head++) {
    const button = element("button", {
      type: "button",
      role: "gridcell",
      ariaLabel: `Layer ${layer + 1}, head ${head + 1}`,
      title: `layer ${layer + 1}, head ${head + 1}`,
      onclick: () => choose({ layer, head }),
    }, element("canvas"));
    headButtons.push(button);
    row.append(button);
  }
  byId("heads").append(row);
}
byId("heads").style.setProperty("--heads", NUM_HEADS);
byId("heads").onkeydown = (event) => {
  const [down, across] = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0],
    ArrowDown: [1, 0] }[event.key] ?? [0, 0];
  if (!down && !across) return;
  event.preventDefault();
  event.stopPropagation();
  const layer = Math.min(Math.max(state.layer + down, 0), NUM_LAYERS - 1);
  const head = Math.min(Math.max(state.head + across, 0), NUM_HEADS - 1);
  choose({ layer, head });
  headButtons[layer * NUM_HEADS + head].focus();
};

function drawHeads() {
  const shown = statistics[state.colouring];
  headButtons.forEach((button, index) => {
    const [layer, head] = [Math.floor(index / NUM_HEADS), index % NUM_HEADS];
    const canvas = button.firstChild;
    if (!shown) {
      drawMap(canvas, attention.below(layer, head), SIZE);
      return;
    }
    const share = (shown.at(layer, head) - shown.low) / (shown.high - shown.low || 1);
    canvas.width = canvas.height = 1;
    const context = canvas.getContext("2d");
    context.fillStyle = css(shade(share * share));
    context.fillRect(0, 0, 1, 1);
  });
  const unit = { entropy: " nats", distance: " tokens" }[state.colouring];
  const told = (value) => (unit ? value.toFixed(2) + unit : percent(value));
  byId("heads-note").textContent = shown
    ? `from ${told(shown.low)} (faint) to ${told(shown.high)} (strong); rows are layers`
    : "Row: the token that looks; column: what it looks at. Rows of heads are layers.";
}

function markHead() {
  const chosen = state.layer * NUM_HEADS + state.head;
  rove(headButtons, chosen);
  headButtons.forEach((button, index) => button.setAttribute("aria-selected", String(index === chosen)));
}

const FACTS = {
  to_cls: "on [CLS]", to_sep: "on [SEP]", to_self: "on itself", to_previous: "on the previous token",
  to_next: "on the next token",
};

function drawHead() {
  const { layer, head, token } = state;
  const weights = attention.below(layer, head);
  byId("head-title").textContent = `Layer ${layer + 1}, head ${head + 1}`;
  const pick = (row) => choose({ token: row });
  if (state.view === "lines") {
    lineMap(byId("head"), { tokens, weights, chosen: token, pick });
  } else {
    heatMap(byId("head"), {
      rows: tokens, columns: tokens, values: weights, chosenRow: token, pick,
      label: `Weights of layer ${layer + 1}, head ${head + 1}`,
      say: (row, column) => `${tokens[row]} looks at ${tokens[column]}: ${percent(weights[row * SIZE + column])}`,
      rest: "Point at a square to read it; click a row to choose its token.",
    });
  }
  const order = [...weights.subarray(token * SIZE, (token + 1) * SIZE)]
    .map((weight, index) => [weight, index]).sort((a, b) => b[0] - a[0]).slice(0, 3);
  byId("head-note").textContent = `${tokens[token]} looks at ` +
    order.map(([weight, index]) => `${tokens[index]} ${percent(weight)}`).join(", ") +
    `. In Python: attention_maps(...).weights[${layer}, ${head}]`;
  const facts = Object.entries(FACTS).map(([name, text]) => [text, statistics[name].at(layer, head)]);
  byId("head-facts").replaceChildren(
    ...facts.flatMap(([text, share]) => {
      const bar = element("i");
      bar.style.width = `${100 * share}%`;
      return [element("dt", {}, text), element("dd", {}, bar, percent(share))];
    }),
    element("dt", {}, "entropy"),
    element("dd", {}, `${statistics.entropy.at(layer, head).toFixed(2)} of ${Math.log(SIZE).toFixed(2)} nats`),
    element("dt", {}, "distance"),
    element("dd", {}, `${statistics.distance.at(layer, head).toFixed(1)} tokens`));
}

function drawRollout() {
  const rows = layerNames.slice(1);
  const values = rows.flatMap((_, layer) => [...rollout.below(layer, state.token)]);
  heatMap(byId("rollout"), {
    rows, columns: tokens, values, high: Math.max(...values), chosenColumn: state.token,
    label: "Attention rollout",
    say: (row, column) => `after ${rows[row]}, ${percent(values[row * SIZE + column])} of ${tokens[state.token]} comes from ${tokens[column]}`,
    rest: `The state of ${tokens[state.token]}`,
    pick: (_, column) => choose({ token: column }),
  });
}

// Geometry

const tokenMap = (place, rows, values, say, extra = {}) =>
  heatMap(byId(place), {
    rows, columns: tokens, values: values.flat, low: values.low, high: values.high,
    chosenColumn: state.token, label: place, pick: (_, column) => choose({ token: column }),
    say: (row, column) => say(row, column, values.at(row, column)), ...extra,
  });

function drawGeometry() {
  const { layers, drift, norms, embeddings } = geometry;
  heatMap(byId("cka"), {
    rows: layerNames, columns: layerNames.map((_, i) => String(i || "e")), values: layers.flat,
    low: layers.low, high: layers.high, label: "CKA of layers", largest: 40,
    say: (a, b) => `${layerNames[a]} and ${layerNames[b]}: ${layers.at(a, b).toFixed(3)}`,
  });
  tokenMap("drift", layerNames, drift, (row, column, value) =>
    `${tokens[column]} after ${layerNames[row]}: cosine ${value.toFixed(2)}`);
  tokenMap("norms", layerNames, norms, (row, column, value) =>
    `${tokens[column]} after ${layerNames[row]}: length ${value.toFixed(2)}`);
  const parts = ["word", "position", "segment", "sum"];
  tokenMap("parts", parts, embeddings, (row, column, value) =>
    `${tokens[column]}, ${parts[row]}: length ${value.toFixed(2)}`);
}

function drawSimilarity() {
  const values = geometry.tokens.below(state.depth);
  byId("depth-name").textContent = layerNames[state.depth];
  heatMap(byId("similarity"), {
    rows: tokens, columns: tokens, values, low: Math.min(...values), high: 1, chosenRow: state.token,
    label: "Cosine of tokens", pick: (row) => choose({ token: row }),
    say: (a, b) => `${tokens[a]} and ${tokens[b]}: cosine ${values[a * SIZE + b].toFixed(2)}`,
  });
}

// Wiring

const PANELS = [
  [drawTokens, ["token"]],
  [drawHeads, ["colouring"]],
  [markHead, ["layer", "head"]],
  [drawHead, ["layer", "head", "token", "view"]],
  [drawRollout, ["token"]],
  [drawNearest, ["token"]],
  [drawGeometry, ["token"]],
  [drawSimilarity, ["token", "depth"]],
];
if (lenses) {
  PANELS.push([drawLensGrid, ["token", "lens"]], [drawLensDetail, ["token", "lens"]], [drawAttribution, ["token"]]);
}

for (const name of ["colouring", "view", "lens"]) {
  const group = byId(name);
  if (!group) continue;
  const buttons = [...group.children];
  const draw = () => buttons.forEach((button) =>
    button.setAttribute("aria-pressed", String(button.dataset.value === state[name])));
  buttons.forEach((button) => (button.onclick = () => choose({ [name]: button.dataset.value })));
  PANELS.push([draw, [name]]);
}
byId("depth").max = NUM_LAYERS;
byId("depth").value = NUM_LAYERS;
byId("depth").oninput = (event) => choose({ depth: Number(event.target.value) });

function drawAll() {
  readColours();
  choose({ ...state });
}

function switchTheme() {
  const root = document.documentElement;
  const isDark = getComputedStyle(root).colorScheme === "dark";
  root.dataset.theme = isDark ? "light" : "dark";
  drawAll();
  document.dispatchEvent(new CustomEvent("themed", { detail: root.dataset.theme }));
}
byId("theme").onclick = switchTheme;
matchMedia("(prefers-color-scheme: dark)").onchange = drawAll;

document.onkeydown = (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input")) return;
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (step) {
    event.preventDefault();
    choose({ token: (state.token + step + SIZE) % SIZE });
    if (event.target.closest("#tokens")) tokenButtons[state.token].focus();
  } else if (event.key === "l") choose({ view: state.view === "lines" ? "matrix" : "lines" });
  else if (event.key === "t") switchTheme();
};

let width = 0;
new ResizeObserver(() => {
  if (document.body.clientWidth === width) return;
  width = document.body.clientWidth;
  drawAll();
}).observe(document.body);

// A page that shows this one in a frame, as that of `explore`, reads and sets what is chosen.
window.explained = { data, state, choose, drawAll, guessesAt };
document.documentElement.classList.toggle("framed", parent !== window);
