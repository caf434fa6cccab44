// What the page says in words: guesses of every layer, where they come from, nearest words.

/** Where a token's guesses lie in a lens, or -1: hidden ones exist but for [CLS] and [SEP]. */
const lensRow = (lens, token) => (lens === "hidden" ? lenses.hidden.positions.indexOf(token) : token);

/** The guesses of a lens at a layer and a token: [name, share] each, the best first. */
function guessesAt(lens, layer, token) {
  const { names, scores } = lenses[lens];
  const row = lensRow(lens, token);
  const at = lens === "hidden" ? [row, layer] : [layer, row];
  const places = scores.below(...at);
  const start = scores.place([...at, 0]);
  return Array.from(places, (share, i) => [data.names[names[start + i]], share]);
}

function ownAt(lens, layer, token) {
  const row = lensRow(lens, token);
  const at = lens === "hidden" ? [row, layer] : [layer, row];
  const { probability, rank } = lenses[lens];
  return [probability.at(...at), rank[probability.place(at)]];
}

function guessCell(tag, name, share, own) {
  const colour = shade(share * 0.9);
  const cell = element(tag, { title: `${name}: ${percent(share)}` }, name);
  cell.style.background = css(colour);
  cell.style.color = ink(colour);
  if (own) cell.className = "right-guess";
  return cell;
}

function drawLensGrid() {
  const head = element("tr", {}, element("th"), ...tokens.map((token, index) =>
    element("th", { className: index === state.token ? "chosen" : "" }, token)));
  const rows = layerNames.map((name, layer) =>
    element("tr", {}, element("th", {}, name), ...tokens.map((token, index) => {
      if (lensRow(state.lens, index) < 0) return element("td", { className: "none" }, "·");
      const [guess, share] = guessesAt(state.lens, layer, index)[0];
      const cell = guessCell("td", guess, share, guess === token);
      cell.onclick = () => choose({ token: index });
      if (index === state.token) cell.classList.add("chosen");
      return cell;
    })));
  const place = byId("lens-grid");
  place.replaceChildren(element("table", { className: "lens" }, head, ...rows));
  const chosen = head.children[state.token + 1];
  place.scrollLeft = chosen.offsetLeft - (place.clientWidth - chosen.clientWidth) / 2;
}

function drawLensDetail() {
  const { token, lens } = state;
  if (lensRow(lens, token) < 0) {
    byId("lens-title").textContent = `${tokens[token]} is never hidden`;
    byId("lens-detail").replaceChildren();
    return;
  }
  const isMask = data.masks.includes(token);
  byId("lens-title").textContent = `In the place of ${tokens[token]}`;
  const rows = layerNames.map((name, layer) => {
    const cells = guessesAt(lens, layer, token).map(([guess, share]) => {
      const cell = guessCell("td", guess, share, guess === tokens[token]);
      cell.append(element("small", {}, percent(share)));
      return cell;
    });
    const [share, rank] = ownAt(lens, layer, token);
    const own = isMask ? [] : [element("td", { className: "own" }, `${percent(share)}, rank ${rank.toLocaleString("en")}`)];
    return element("tr", {}, element("th", {}, name), ...cells, ...own);
  });
  const columns = Array.from({ length: lenses[lens].scores.shape.at(-1) }, (_, i) => element("th", {}, `${i + 1}.`));
  if (!isMask) columns.push(element("th", {}, tokens[token]));
  byId("lens-detail").replaceChildren(
    element("table", { className: "lens detail" }, element("tr", {}, element("th"), ...columns), ...rows));
}

function drawChips(place, values, largest) {
  place.replaceChildren(...tokens.map((token, index) => {
    const colour = signedShade(values[index] / (largest || 1));
    const chip = element("span", {}, token, element("small", {}, signed(values[index])));
    chip.style.background = css(colour);
    chip.style.color = ink(colour);
    if (index === state.token) chip.className = "chosen";
    return chip;
  }));
}

function drawAttribution() {
  const row = lensRow("hidden", state.token);
  const title = byId("attribution-title");
  for (const name of ["integrated", "gradient"]) byId(name).replaceChildren();
  byId("integrated-note").textContent = "";
  if (row < 0) {
    title.textContent = `Choose another token: ${tokens[state.token]} is never hidden.`;
    return;
  }
  const [guess, share] = guessesAt("hidden", NUM_LAYERS, state.token)[0];
  title.replaceChildren("With ", element("b", {}, tokens[state.token]),
    data.masks.includes(state.token) ? "" : " hidden", " the model says ", element("b", {}, guess), `: ${percent(share)}.`);
  const draw = (name, at) => {
    const values = attribution[name].below(at);
    drawChips(byId(name), values, Math.max(...values.map(Math.abs)));
  };
  draw("gradient", row);
  const way = pathPositions.indexOf(state.token);
  if (way < 0) {
    byId("integrated-note").textContent = "Computed at [MASK] where a text has one, to save time.";
    return;
  }
  draw("integrated", way);
  const [before, after] = [attribution.baseline.at(way), attribution.log_probability.at(way)];
  const total = attribution.integrated.below(way).reduce((a, b) => a + b, 0);
  byId("integrated-note").textContent =
    `With every word hidden its probability is ${percent(Math.exp(before))}; seeing them adds ` +
    `${signed(after - before)} nats, of which the shares explain ${signed(total)}.`;
}

function drawNearest() {
  const rows = layerNames.map((name, layer) => {
    const start = nearest.scores.place([layer, state.token, 0]);
    const cells = Array.from(nearest.scores.below(layer, state.token), (cosine, i) => {
      const word = data.names[nearest.names[start + i]];
      const cell = guessCell("td", word, Math.max(cosine, 0) ** 2, word === tokens[state.token]);
      cell.title = `${word}: cosine ${cosine.toFixed(2)}`;
      cell.append(element("small", {}, cosine.toFixed(2)));
      return cell;
    });
    return element("tr", {}, element("th", {}, name), ...cells);
  });
  byId("nearest").replaceChildren(element("table", { className: "lens detail" }, ...rows));
}
