// The page of `explore`: what is typed and hidden goes to the server, its answers are shown.

const TYPING_PAUSE_MS = 400;
const hidden = [new Set(), new Set()];
const fields = [byId("text"), byId("pair")];
let words = [[], []];
const frames = [];
let piecesHidden = [];
let theme = "";

async function ask(what, values) {
  const answer = await fetch(what, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(values),
  });
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer.json();
}

/** A job that runs once at a time; what is asked for meanwhile is done once, afterwards. */
function newest(note, job) {
  let isRunning = false;
  let again = false;
  return async () => {
    again = true;
    if (isRunning) return;
    isRunning = true;
    note.textContent = "The model reads …";
    while (again) {
      again = false;
      try {
        note.textContent = (await job()) ?? "";
      } catch (error) {
        note.textContent = error.message;
      }
    }
    isRunning = false;
  };
}

/** Do something after a pause in typing. */
function paused(job) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(job, TYPING_PAUSE_MS);
  };
}

// A text, its words, and a page of `explain` for each model

const look = newest(byId("note"), async () => {
  const [text, pair] = fields.map((field) => field.value);
  const found = await ask("read", { text, pair });
  words = found.words;
  drawWords();
  drawFollows(found.follows);
  if (!words[0].length) return "Type a text.";
  const asked = hiddenPieces();
  const { pages } = await ask("look", { text, pair, hidden: hidden.map((numbers) => [...numbers]) });
  await Promise.all(pages.map(openPage));
  piecesHidden = asked;
  drawGuesses();
});

function drawWords() {
  byId("words").replaceChildren(...words.flatMap((list, which) =>
    list.map(({ text, is_mask: isMask }, number) => element("button", {
      type: "button",
      className: [isMask && "mask", which && "second"].filter(Boolean).join(" "),
      disabled: isMask,
      ariaPressed: String(hidden[which].has(number)),
      onclick: () => {
        if (!hidden[which].delete(number)) hidden[which].add(number);
        drawWords();
        byId("words").children[which * words[0].length + number].focus();
        look();
      },
    }, text))));
}

function drawFollows(verdicts) {
  const meter = (label, share) => {
    const bar = element("i");
    bar.style.width = percent(share).replace(" ", "");
    return [element("dt", {}, label), element("dd", {}, element("div", { className: "meter" }, bar), percent(share))];
  };
  byId("follows").replaceChildren(...verdicts.flatMap((shares, model) => {
    const title = element("h3", {}, element("bdi", {}, data.names[model]));
    if (!shares) return [title, element("p", { className: "faint" }, "has not learnt whether a text follows another.")];
    return [title, element("dl", {}, ...meter("second follows first", shares[0]), ...meter("first follows second", shares[1]))];
  }));
}

/** Open a page of `explain` in the place of the one before, which stays until the new one is there. */
function openPage(number, model) {
  const box = byId("frames").children[model];
  const before = frames[model];
  const frame = element("iframe", { title: `Inside ${data.names[model]}`, className: "coming" });
  const opened = new Promise((done) => (frame.onload = done));
  frame.src = `page/${number}`;
  box.append(frame);
  return opened.then(() => {
    const { explained, document: inside } = frame.contentWindow;
    if (!explained) throw new Error(inside.body.textContent.trim());
    if (theme) inside.documentElement.dataset.theme = theme;
    const kept = before?.contentWindow.explained;
    if (kept) Object.assign(explained.state, stillThere(kept, explained));
    explained.drawAll();
    inside.addEventListener("chosen", (event) => chooseToo(frame, event.detail));
    inside.addEventListener("themed", (event) => setTheme(event.detail));
    frame.className = "";
    frames[model] = frame;
    before?.remove();
  });
}

const sameText = (one, other) => JSON.stringify(one.data.tokens) === JSON.stringify(other.data.tokens);
const sameShape = (one, other) => JSON.stringify(one.data.shape) === JSON.stringify(other.data.shape);

/** What was chosen in one page, as far as another page has it; a new [MASK] is looked at. */
function stillThere(from, to) {
  const { token, ...rest } = from.state;
  if (!sameShape(from, to)) return {};
  const last = to.data.tokens.length - 1;
  const added = to.data.masks.find((place) => !from.data.masks.includes(place));
  return { ...rest, token: added ?? Math.min(token, last) };
}

/** Choose in the other page what has been chosen in this one. */
function chooseToo(frame, changes) {
  const own = frame.contentWindow.explained;
  for (const other of frames.filter((page) => page !== frame)) {
    const { explained } = other.contentWindow;
    if (!explained || !sameText(own, explained) || !sameShape(own, explained)) continue;
    const differing = Object.entries(changes).filter(([name, value]) => explained.state[name] !== value);
    if (differing.length) explained.choose(Object.fromEntries(differing));
  }
}

/** The pieces that stand behind each [MASK]; "" where the text itself says [MASK]. */
function hiddenPieces() {
  return words.flatMap((list, which) => list.flatMap(({ pieces, is_mask: isMask }, number) =>
    isMask ? [""] : hidden[which].has(number) ? pieces : []));
}

function drawGuesses() {
  readColours();
  const views = frames.map((frame) => frame.contentWindow.explained);
  const rows = piecesHidden.flatMap((piece, index) => views.filter((view) => view.data.hidden).map((view, model) => {
    const { data: seen, guessesAt } = view;
    const cells = guessesAt("hidden", seen.shape.layers, seen.masks[index]).map(([guess, share]) => {
      const cell = guessCell("td", guess, share, guess === piece);
      cell.append(element("small", {}, percent(share)));
      return cell;
    });
    const word = element("th", {}, model ? "" : piece || "[MASK]");
    return element("tr", {}, word, element("th", {}, element("bdi", {}, data.names[model])), ...cells);
  }));
  byId("guesses").hidden = !rows.length;
  byId("guesses").lastElementChild.replaceChildren(element("table", { className: "lens detail" }, ...rows));
}

// Lines on a map

const drawMaps = newest(byId("map-note"), async () => {
  const method = chosenOf("method");
  const { lines, maps } = await ask("map", { lines: byId("lines").value, method });
  const boxes = maps.map((map, model) => {
    const kept = map.kept === null ? "" : `: the plane shows ${percent(map.kept)} of the variance`;
    return element("figure", {}, element("figcaption", {}, element("bdi", {}, data.names[model]), kept), scatter(map.points, lines));
  });
  byId("maps").replaceChildren(...boxes);
  return `${lines.length} lines. Point at one to find it.`;
});

const MAP = { width: 560, height: 400, margin: 14, maxLabels: 60, letters: 26 };

/** A picture of points, each with its line. */
function scatter(points, lines) {
  const picture = svgElement("svg", { viewBox: `0 0 ${MAP.width} ${MAP.height}`, class: "scatter", role: "img" });
  const scale = (axis, size) => {
    const values = points.map((point) => point[axis]);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    return (value) => MAP.margin + ((value - low) / (high - low || 1)) * (size - 2 * MAP.margin);
  };
  const [across, up] = [scale(0, MAP.width), scale(1, MAP.height)];
  const short = (text) => (text.length > MAP.letters ? `${text.slice(0, MAP.letters - 1)}…` : text);
  points.forEach(([x, y], line) => {
    const [left, top] = [across(x), MAP.height - up(y)];
    const isRight = left > MAP.width / 2;
    const point = svgElement("g", { class: "point", "data-line": line });
    point.append(svgElement("title", {}, lines[line]), svgElement("circle", { cx: left, cy: top, r: 4 }));
    if (lines.length <= MAP.maxLabels) {
      point.append(svgElement("text", { x: left + (isRight ? -7 : 7), y: top + 4,
        "text-anchor": isRight ? "end" : "start" }, short(lines[line])));
    }
    point.onpointerenter = () => markLine(line, lines[line]);
    picture.append(point);
  });
  return picture;
}

/** Mark a line on every map. */
function markLine(line, text) {
  for (const point of document.querySelectorAll(".point")) {
    point.classList.toggle("chosen", point.dataset.line === String(line));
  }
  byId("map-note").textContent = text;
}

// Wiring

const chosenOf = (group) => byId(group).querySelector("[aria-pressed=true]").dataset.value;

function wire(group, job) {
  const buttons = [...byId(group).children];
  const choose = (chosen) => buttons.forEach((button) => button.setAttribute("aria-pressed", String(button === chosen)));
  buttons.forEach((button) => (button.onclick = () => (choose(button), job(button.dataset.value))));
  choose(buttons[0]);
}

function setTheme(name) {
  theme = name;
  document.documentElement.dataset.theme = theme;
  frames.forEach(({ contentWindow: { document: inside, explained } }) => {
    if (inside.documentElement.dataset.theme === theme) return;
    inside.documentElement.dataset.theme = theme;
    explained.drawAll();
  });
  drawGuesses();
}

byId("theme").onclick = () =>
  setTheme(getComputedStyle(document.documentElement).colorScheme === "dark" ? "light" : "dark");
wire("part", (part) => {
  byId("inside").hidden = part !== "inside";
  byId("map").hidden = part !== "map";
  if (part === "map" && !byId("maps").firstChild) drawMaps();
});
wire("method", drawMaps);
byId("lines").oninput = paused(drawMaps);
const lookSoon = paused(look);
fields.forEach((field, which) => (field.oninput = () => {
  hidden[which].clear();
  lookSoon();
}));
byId("frames").append(...data.names.map(() => element("div")));
look();
