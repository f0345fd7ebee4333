"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const [COLUMNS, CELL_WIDTH, CELL_HEIGHT] = data.cell;
const LOCAL = location.protocol === "file:";
const GAP = 14;
const KEPT = 48; // sheets that are held; the browser's cache has the others
const number = (value) => value.toLocaleString("en");
const classes = new Map(data.classes.map(([id, name, colour, count]) => [id, { id, name, colour, count }]));

// ---- the data: see _Rows in gallery.py ------------------------------------------------------------------------------

function unpack(rows) {
  const before = ["", "", ""];
  const text = (which, shared, rest) => (shared || rest ? (before[which] = before[which].slice(0, shared) + rest) : "");
  return rows.map((row, order) => {
    const path = text(1, row[7], row[8]);
    const item = { order, source: text(0, row[0], row[1]), frames: row[2], sheet: sheets[row[3]], cell: row[4] };
    const link = text(2, row[9], row[10]).replace("\n", () => path);
    const found = [];
    for (let at = 11; at < row.length; at += 3) found.push([row[at], row[at + 1], row[at + 2] / 1000]);
    return Object.assign(item, { width: row[5], height: row[6], annotated: places(path, link), found });
  });
}

// A presigned link expires and a downloaded folder has none: each place is tried in turn.
function places(path, link) {
  if (!path) return [];
  const relative = `./${path.split("/").map(encodeURIComponent).join("/")}`;
  if (!link) return [relative];
  return LOCAL ? [relative, link] : [link, relative];
}

function load(node, order, failed) {
  const left = [...order];
  const attempt = () => (left.length ? (node.src = left.shift()) : failed());
  node.addEventListener("error", attempt);
  attempt();
  return node;
}

const sheets = data.sheets.map(([path, link]) => ({ order: places(path, link), state: "away", image: null }));
const items = unpack(data.rows);
data.rows = null;

// ---- sheets: asked for where a card that is to be seen needs one ----------------------------------------------------

const held = new Set();

function fetchSheet(sheet) {
  if (sheet.state !== "away") return;
  sheet.state = "coming";
  sheet.image = new Image();
  const failed = () => {
    sheet.state = "failed";
    byId("broken").hidden = false;
    paintAll();
  };
  sheet.image.addEventListener("load", async () => {
    // Decoding here would stop the page; where it is refused, drawing decodes.
    await sheet.image.decode().catch(() => {});
    sheet.state = "here";
    hold(sheet);
    paintAll();
  });
  load(sheet.image, sheet.order, failed);
}

function fitted(item) {
  const gain = Math.min(CELL_WIDTH / item.width, CELL_HEIGHT / item.height);
  return [Math.max(Math.floor(item.width * gain + 0.5), 1), Math.max(Math.floor(item.height * gain + 0.5), 1)];
}

// The picture in a cell, with the ground around it or bare. In a JPEG colours run into the next cell by a pixel.
function cut(canvas, image, item, bare) {
  const [wide, high] = bare ? fitted(item) : [CELL_WIDTH, CELL_HEIGHT];
  const left = (item.cell % COLUMNS) * CELL_WIDTH + Math.floor((CELL_WIDTH - wide) / 2);
  const top = Math.floor(item.cell / COLUMNS) * CELL_HEIGHT + Math.floor((CELL_HEIGHT - high) / 2);
  const [width, height] = [Math.max(wide - 2, 1), Math.max(high - 2, 1)];
  Object.assign(canvas, { width, height });
  canvas.getContext("2d").drawImage(image, left + 1, top + 1, width, height, 0, 0, width, height);
}

function hold(sheet) {
  held.delete(sheet);
  held.add(sheet);
}

function paint(card) {
  const { state } = card.item.sheet;
  if (card.painted || (state !== "here" && state !== "failed")) return;
  card.painted = true;
  if (state === "here") {
    cut(card.canvas, card.item.sheet.image, card.item, false);
    hold(card.item.sheet);
  }
  card.node.classList.add(state === "here" ? "seen" : "missing");
}

function paintAll() {
  for (const card of mounted.values()) paint(card);
  for (const sheet of held) {
    if (held.size <= KEPT) break;
    held.delete(sheet);
    Object.assign(sheet, { state: "away", image: null });
  }
}

// ---- cards ----------------------------------------------------------------------------------------------------------

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function tallies(item, longest) {
  const list = make("span", "tallies");
  const others = item.found.filter((each) => !counted(item).includes(each));
  for (const [id, count, confidence] of [...counted(item), ...others].slice(0, longest)) {
    const each = classes.get(id);
    const entry = make("span", "tally");
    const dot = make("i");
    dot.style.background = each.colour;
    entry.append(dot, make("bdi", "", each.name), make("b", "", number(count)));
    entry.title = `${each.name}: ${number(count)}, at most ${confidence.toFixed(2)}`;
    list.append(entry);
  }
  const rest = item.found.length - longest;
  if (rest > 0) list.append(make("span", "more", `+${rest}`));
  if (!item.found.length) list.append(make("span", "none", "nothing found"));
  return list;
}

function makeCard(item, position) {
  const node = make("button", "card");
  const frame = make("span", "frame");
  const canvas = make("canvas");
  const name = item.source.split("/").pop();
  node.type = "button";
  node.title = item.source;
  node.dataset.position = position;
  const told = item.found.map(([id, count]) => `${count} ${classes.get(id).name}`).join(", ");
  node.setAttribute("aria-label", `${item.frames ? "video " : ""}${name}: ${told || "nothing found"}`);
  frame.append(canvas);
  const narrow = shape.width < 190;
  if (item.frames) frame.append(make("span", "badge film", `▶ ${number(item.frames)}${narrow ? "" : " frames"}`));
  if (item.found.length) {
    const best = make("span", "badge best", surest(item).toFixed(2));
    best.title = "highest confidence";
    frame.append(best);
  }
  node.append(frame, make("bdi", "name", name), tallies(item, narrow ? 1 : 2));
  return { node, canvas, item, painted: false };
}

// ---- the grid: only cards near the window are in the document -------------------------------------------------------

const mounted = new Map();
let shown = [];
let shape = {};
let waiting = 0;
let settling = 0;

function measure() {
  const grid = byId("grid");
  const space = grid.clientWidth;
  const columns = Math.max(2, Math.floor((space + GAP) / (196 + GAP)));
  const gap = space < 480 ? 10 : GAP;
  const width = (space - gap * (columns - 1)) / columns;
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  shape = { space, columns, width, left: width + gap, height: (width * 3) / 4 + 3.75 * rem };
  shape.row = shape.height + gap;
  grid.style.height = `${Math.max(Math.ceil(shown.length / columns) * shape.row - gap, 0)}px`;
}

function put(card, position) {
  const left = (position % shape.columns) * shape.left;
  const top = Math.floor(position / shape.columns) * shape.row;
  Object.assign(card.node.style, { width: `${shape.width}px`, height: `${shape.height}px` });
  card.node.style.transform = `translate(${left}px, ${top}px)`;
}

function draw() {
  waiting = 0;
  const grid = byId("grid");
  const above = -grid.getBoundingClientRect().top;
  const first = Math.max(Math.floor((above - 400) / shape.row), 0) * shape.columns;
  const end = Math.min(Math.ceil((above + innerHeight + 400) / shape.row) * shape.columns, shown.length);
  for (const [position, card] of mounted) {
    if (position >= first && position < end) continue;
    card.node.remove();
    mounted.delete(position);
  }
  for (let position = first; position < end; position += 1) {
    if (mounted.has(position)) continue;
    const card = makeCard(shown[position], position);
    put(card, position);
    mounted.set(position, card);
    paint(card);
    const follower = [...grid.children].find((node) => Number(node.dataset.position) > position);
    grid.insertBefore(card.node, follower ?? null);
  }
  clearTimeout(settling);
  // Who drags the scroll bar past a thousand pictures waits for none of them.
  settling = setTimeout(() => mounted.forEach((card) => fetchSheet(card.item.sheet)), 60);
}

function soon() {
  waiting = waiting || requestAnimationFrame(draw);
}

function redraw() {
  for (const card of mounted.values()) card.node.remove();
  mounted.clear();
  measure();
  draw();
}

function reveal(position) {
  const top = byId("grid").getBoundingClientRect().top + Math.floor(position / shape.columns) * shape.row;
  const roof = document.querySelector(".tools").offsetHeight + 8;
  if (top < roof) scrollBy(0, top - roof);
  else if (top + shape.height > innerHeight) scrollBy(0, top + shape.height + 16 - innerHeight);
  draw();
  mounted.get(position)?.node.focus({ preventScroll: true });
}

// ---- filters --------------------------------------------------------------------------------------------------------

const chosen = new Set();
let show = "all";

const counted = (item) => (chosen.size ? item.found.filter(([id]) => chosen.has(id)) : item.found);
const total = (item) => counted(item).reduce((sum, [, count]) => sum + count, 0);
const surest = (item) => Math.max(0, ...counted(item).map(([, , confidence]) => confidence));
const orders = {
  name: (item) => item.lower,
  most: (item) => -total(item),
  sure: (item) => -surest(item),
  unsure: surest,
};
const kinds = {
  all: () => true,
  some: (item) => item.found.length > 0,
  none: (item) => item.found.length === 0,
  video: (item) => item.frames > 0,
};
for (const item of items) item.lower = item.source.toLowerCase();

function wanted(item, lowest, text) {
  if (text && !item.lower.includes(text)) return false;
  if (!kinds[show](item)) return false;
  if (!chosen.size && !lowest) return true;
  return item.found.some(([id, , confidence]) => confidence >= lowest && (!chosen.size || chosen.has(id)));
}

function filter() {
  const lowest = Number(byId("confidence").value);
  const text = byId("search").value.trim().toLowerCase();
  const key = orders[byId("sort").value];
  shown = items.filter((item) => wanted(item, lowest, text));
  if (key) {
    const keys = new Map(shown.map((item) => [item, key(item)]));
    shown.sort((a, b) => (keys.get(a) < keys.get(b) ? -1 : Number(keys.get(a) > keys.get(b))));
  }
  const active = chosen.size + (lowest > 0) + (text !== "") + (show !== "all");
  byId("lowest").textContent = lowest ? `at least ${lowest.toFixed(2)}` : "any";
  byId("shown").textContent = `${number(shown.length)} of ${number(items.length)}`;
  byId("active").textContent = active || "";
  byId("reset").hidden = !active;
  byId("all").hidden = !chosen.size;
  byId("nothing").hidden = shown.length > 0 || !items.length;
  for (const node of byId("classes").children) press(node, chosen.has(Number(node.dataset.class)));
  for (const node of byId("show").children) press(node, node.dataset.show === show);
  const bars = [...byId("histogram").children];
  bars.forEach((bar, index) => bar.classList.toggle("off", (index + 1) / bars.length <= lowest));
  redraw();
}

function press(button, on) {
  button.setAttribute("aria-pressed", String(on));
}

// Nobody who has scrolled far down looks at what a new filter gives from its middle.
function refilter() {
  const top = document.querySelector("main").getBoundingClientRect().top;
  if (top < 0 && matchMedia("(min-width: 900px)").matches) scrollBy(0, top);
  filter();
}

function reset() {
  chosen.clear();
  show = "all";
  byId("confidence").value = 0;
  byId("search").value = "";
  refilter();
}

function classButton({ id, name, colour, count }, highest) {
  const node = make("button", "class");
  const dot = make("i");
  const bar = make("span", "share");
  const fill = make("span");
  node.type = "button";
  node.title = name;
  node.dataset.class = id;
  dot.style.background = fill.style.background = colour;
  fill.style.width = `${(100 * count) / highest}%`;
  bar.append(fill);
  node.append(dot, make("bdi", "", name), make("b", "", number(count)), bar);
  return node;
}

// ---- one picture, large ---------------------------------------------------------------------------------------------

let open = -1;
const ahead = new Map();

function sized(node, item) {
  node.style.setProperty("--ratio", item.width / item.height);
  node.style.setProperty("--most", `${item.annotated.length ? 2 * item.width : 3 * CELL_WIDTH}px`);
  return node;
}

function enlarged(item) {
  const canvas = sized(make("canvas", "thumbnail"), item);
  const image = item.sheet.state === "here" ? item.sheet.image : load(new Image(), item.sheet.order, () => {});
  if (image.complete && image.naturalWidth) cut(canvas, image, item, true);
  else image.addEventListener("load", () => cut(canvas, image, item, true));
  return canvas;
}

function media(item, under) {
  const film = item.frames > 0;
  const node = sized(make(film ? "video" : "img", "media"), item);
  if (film) Object.assign(node, { controls: true, autoplay: true, muted: true, loop: true, playsInline: true });
  else node.alt = item.source;
  node.addEventListener(film ? "loadeddata" : "load", () => under.remove());
  return load(node, item.annotated, () => {
    node.remove();
    byId("stage").append(make("p", "lost", "This picture did not load; its thumbnail is shown."));
  });
}

function view(position) {
  const item = shown[position];
  if (!item) return;
  open = position;
  const under = enlarged(item);
  byId("stage").replaceChildren(under);
  if (item.annotated.length) byId("stage").append(media(item, under));
  byId("name").textContent = item.source;
  const facts = [`${item.width} × ${item.height}`, `${number(position + 1)} of ${number(shown.length)}`];
  if (!item.annotated.length) facts.unshift("thumbnail");
  byId("facts").textContent = facts.join(" · ");
  byId("file").hidden = !item.annotated.length;
  if (item.annotated.length) byId("file").href = item.annotated[0];
  byId("caption").replaceChildren(tallies(item, 12));
  byId("back").disabled = position === 0;
  byId("next").disabled = position === shown.length - 1;
  if (!byId("viewer").open) byId("viewer").showModal();
  ahead.clear();
  for (const near of [shown[position + 1], shown[position - 1]]) {
    if (near?.annotated.length && !near.frames) ahead.set(near, load(new Image(), near.annotated, () => {}));
  }
}

// ---- what people do -------------------------------------------------------------------------------------------------

const steps = { ArrowLeft: () => -1, ArrowRight: () => 1, ArrowUp: () => -shape.columns, ArrowDown: () => shape.columns };

byId("grid").addEventListener("click", (event) => {
  const node = event.target.closest(".card");
  if (node) view(Number(node.dataset.position));
});
byId("grid").addEventListener("keydown", (event) => {
  const at = Number(event.target.dataset.position);
  const ends = { Home: 0, End: shown.length - 1 };
  const to = ends[event.key] ?? at + (steps[event.key]?.() ?? NaN);
  if (!(to >= 0 && to < shown.length)) return;
  event.preventDefault();
  reveal(to);
});
byId("classes").addEventListener("click", (event) => {
  const node = event.target.closest("button");
  if (!node) return;
  const id = Number(node.dataset.class);
  if (!chosen.delete(id)) chosen.add(id);
  refilter();
});
byId("show").addEventListener("click", (event) => {
  show = event.target.dataset.show ?? show;
  refilter();
});
byId("all").addEventListener("click", () => {
  chosen.clear();
  refilter();
});
byId("find").addEventListener("input", () => {
  const text = byId("find").value.trim().toLowerCase();
  for (const node of byId("classes").children) node.hidden = !node.title.toLowerCase().includes(text);
});
byId("reset").addEventListener("click", reset);
byId("confidence").addEventListener("input", refilter);
byId("search").addEventListener("input", refilter);
byId("sort").addEventListener("change", refilter);
byId("back").addEventListener("click", () => view(open - 1));
byId("next").addEventListener("click", () => view(open + 1));
byId("close").addEventListener("click", () => byId("viewer").close());
byId("viewer").addEventListener("close", () => {
  byId("stage").replaceChildren();
  ahead.clear();
  reveal(open);
});
byId("viewer").addEventListener("click", (event) => {
  if (event.target === byId("viewer") || event.target === byId("stage")) byId("viewer").close();
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (!byId("viewer").open) {
    if (event.key !== "/" || /INPUT|SELECT/.test(event.target.tagName)) return;
    event.preventDefault();
    byId("filters").open = true;
    byId("search").focus();
  } else if (event.target.tagName !== "VIDEO") {
    if (event.key === "ArrowLeft") view(open - 1);
    if (event.key === "ArrowRight") view(open + 1);
  }
});
let touched = null;
byId("stage").addEventListener("touchstart", (event) => (touched = event.touches.length === 1 ? event.touches[0] : null), { passive: true });
byId("stage").addEventListener("touchend", (event) => {
  const moved = touched && event.target.tagName !== "VIDEO" ? event.changedTouches[0].clientX - touched.clientX : 0;
  if (Math.abs(moved) > 60) view(open - Math.sign(moved));
});
addEventListener("scroll", soon, { passive: true });
function resized() {
  if (byId("grid").clientWidth === shape.space) return;
  measure();
  mounted.forEach(put);
  draw();
}

// Drawing within the observer would change what it observes.
new ResizeObserver(() => requestAnimationFrame(resized)).observe(document.querySelector("main"));

const highest = Math.max(1, ...[...classes.values()].map((each) => each.count));
byId("classes").append(...[...classes.values()].map((each) => classButton(each, highest)));
byId("find").hidden = classes.size <= 12;
if (LOCAL) for (const link of document.querySelectorAll("[data-path]")) link.href = `./${link.dataset.path}`;
if (data.total > items.length) {
  byId("partial").hidden = false;
  byId("partial").textContent = `The first ${number(items.length)} of ${number(data.total)} are shown here; all are in predictions.parquet and pictures.parquet.`;
}
if (matchMedia("(max-width: 899px)").matches) byId("filters").open = false;
filter();
