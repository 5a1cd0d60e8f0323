"use strict";
const byId = (id) => document.getElementById(id);
const read = (id) => JSON.parse(byId(id).textContent);
const make = (name, text = "", parent = null) => {
  const element = document.createElement(name);
  element.textContent = text; // never markup: names come from data and plugins
  if (parent) parent.append(element);
  return element;
};

// -- tables: a click on a heading sorts; cells without a figure stay last

function compare(a, b, sign) {
  if (a === b) return 0;
  if (a === "") return 1;
  if (b === "") return -1;
  return sign * (typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true }));
}

function sort(table, place) {
  const heads = [...table.tHead.rows[0].cells];
  const up = heads[place].ariaSort === "descending" || (place === 0 && heads[0].ariaSort === "none");
  const value = (row) => {
    const cell = row.cells[place];
    if (place === 0) return cell.textContent;
    return cell.dataset.order === "" ? "" : Number(cell.dataset.order);
  };
  const rows = [...table.tBodies[0].rows].sort((a, b) => compare(value(a), value(b), up ? 1 : -1));
  heads.forEach((head, i) => { head.ariaSort = i !== place ? "none" : up ? "ascending" : "descending"; });
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((head, place) => {
    head.querySelector("button").addEventListener("click", () => sort(table, place));
  });
}

// -- what stands behind a figure

const details = read("details");
const dialog = byId("behind");

function terms(cell) {
  const list = document.createElement("dl");
  for (const [name, value] of Object.entries(cell)) {
    make("dt", name.replaceAll("_", " "), list);
    make("dd", String(value), list);
  }
  return list;
}

function openFromHash() {
  const figure = details.figures[location.hash.slice(1)];
  if (!figure) return;
  byId("behind-title").textContent = figure.title;
  const text = byId("behind-text");
  text.replaceChildren();
  for (const [seed, where, reason] of figure.failures) {
    const line = make("p", `Seed ${seed} failed (${where}): ${reason}`, text);
    line.className = "failed";
  }
  for (const [seed, value, place] of figure.seeds) {
    const block = make("details", "", text);
    make("summary", `Seed ${seed}: ${value}`, block);
    block.append(terms(details.cells[place]));
    block.open = figure.seeds.length === 1;
  }
  const settings = make("a", "All settings of the run", make("p", "", text));
  settings.href = "#settings";
  settings.addEventListener("click", () => dialog.close());
  if (!dialog.open) dialog.showModal();
}

addEventListener("hashchange", openFromHash);
dialog.addEventListener("close", () => {
  // The place in the page stays, and the same link works again.
  if (details.figures[location.hash.slice(1)]) history.replaceState(null, "", location.pathname);
});
openFromHash();

// On paper nothing can be opened.
addEventListener("beforeprint", () => {
  document.querySelectorAll("main details").forEach((part) => { part.open = true; });
});

// -- gallery

const shown = read("gallery-data");
if (shown) startGallery();

async function pixels(sheet) {
  const image = new Image();
  image.src = sheet;
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.width, image.height];
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const colours = context.getImageData(0, 0, image.width, image.height).data;
  return colours.filter((_, i) => i % 4 === 0);
}

async function startGallery() {
  const [width, height] = shown.size;
  const area = width * height;
  const own = new Map(); // decoded when a method is first shown
  const sheets = { pictures: await pixels(shown.pictures) };
  if (shown.evidence) sheets.evidence = await pixels(shown.evidence);
  const form = byId("choices");
  const chosen = (name) => [...form.querySelectorAll(`input[name=${name}]:checked`)].map((i) => i.value);

  function order(cases, key, first) {
    const value = (i) => (key === "drop" ? first?.drops[i] : shown.cases[i][key]) ?? "";
    const sign = key === "id" || key === "label" ? 1 : -1;
    return cases.sort((a, b) => compare(value(a), value(b), sign));
  }

  function paint(place, colour, evidence = true) {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [2 * width, 2 * height];
    const context = canvas.getContext("2d");
    const data = context.createImageData(2 * width, 2 * height);
    for (let i = 0; i < 4 * area; i++) {
      const x = i % (2 * width), y = Math.floor(i / (2 * width));
      const p = Math.floor(y / 2) * width + Math.floor(x / 2);
      const edge = evidence && sheets.evidence && isEdge(place, x, y);
      data.data.set(edge ? [255, 255, 255, 255] : colour(place * area + p), 4 * i);
    }
    context.putImageData(data, 0, 0);
    return canvas;
  }

  // The outline runs just outside of the evidence, half a pixel wide.
  function isEdge(place, x, y) {
    const inside = (a, b) => {
      const [u, v] = [Math.floor(a / 2), Math.floor(b / 2)];
      return u >= 0 && v >= 0 && u < width && v < height && sheets.evidence[place * area + v * width + u] > 0;
    };
    return !inside(x, y) && (inside(x - 1, y) || inside(x + 1, y) || inside(x, y - 1) || inside(x, y + 1));
  }

  const grey = (p) => { const v = sheets.pictures[p]; return [v, v, v, 255]; };
  const views = {
    map: (map) => (p) => [map[p], map[p], map[p], 255],
    overlay: (map) => (p) => {
      const share = 0.7 * map[p] / 255, v = sheets.pictures[p] * (1 - share);
      return [v + 230 * share, v + 76 * share, v, 255];
    },
    reserved: (map, t) => (p) => (map[p] >= (1 - t) * 255 ? grey(p) : [0, 38, 77, 255]),
  };

  function tile(name, words, canvases) {
    const figure = document.createElement("figure");
    const row = make("div", "", figure);
    row.className = "row";
    canvases.forEach(([canvas, text]) => {
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", text);
      row.append(canvas);
    });
    make("figcaption", name, figure).append(document.createElement("br"), words);
    return figure;
  }

  function methodTile(i, method, map, view, t) {
    const kept = map.subarray(i * area, (i + 1) * area).reduce((n, v) => n + (v >= (1 - t) * 255), 0);
    const share = `${(100 * kept / area).toFixed(1)} % reserved`;
    const drop = method.drops[i] === null ? "" : `, loss ${method.drops[i]} points`;
    const wanted = view === "all" ? ["overlay", "map", "reserved"] : [view];
    const canvases = wanted.map((name) => [
      paint(i, views[name](map, t)),
      `${name} of ${method.title} on ${shown.cases[i].id}: ${share}${drop}`,
    ]);
    return tile(method.title, share + drop, canvases);
  }

  let turn = 0;
  async function draw() {
    const mine = ++turn;
    const t = Number(byId("threshold").value);
    byId("t").textContent = t.toFixed(2);
    const methods = chosen("method").map((i) => shown.methods[i]);
    for (const method of methods) if (!own.has(method)) own.set(method, await pixels(method.sheet));
    if (mine !== turn) return; // a later choice is being drawn
    const labels = new Set(chosen("label"));
    const every = shown.cases.map((_, i) => i).filter((i) => labels.has(shown.cases[i].label));
    const cases = order(every, byId("order").value, methods[0]).slice(0, Number(byId("count").value));
    const lines = cases.map((i) => {
      const line = document.createElement("div");
      line.className = "case";
      const { id, label, area: evidence, disagreement } = shown.cases[i];
      const words = `class ${label}` + (evidence === null ? "" : `, evidence ${evidence} %`) + `, disagreement ${disagreement}`;
      line.append(tile(id, words, [[paint(i, grey), `slice ${id}, ${words}`]]));
      for (const method of methods) line.append(methodTile(i, method, own.get(method), byId("view").value, t));
      return line;
    });
    byId("cases").replaceChildren(...lines);
    byId("shown").textContent = `${cases.length} of ${shown.cases.length} cases, ${methods.length} methods, T = ${t.toFixed(2)}`;
  }

  form.addEventListener("input", draw);
  form.addEventListener("submit", (event) => event.preventDefault());
  await draw();
}
