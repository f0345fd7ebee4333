"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const [COLUMNS, CELL_WIDTH, CELL_HEIGHT] = data.cell;
const SIGNED = location.search !== ""; // opened by a presigned link
const GAP = 14;
const STEPS = 100; // of confidence
const KEPT = 48; // sheets that are held; the browser's cache has the others
const number = (value) => value.toLocaleString("en");
const classes = new Map(data.classes.map(([id, name, colour, ...steps]) => [id, { id, name, colour, steps }]));

// ---- the data: see _Rows in gallery.py ------------------------------------------------------------------------------

function unpack(rows) {
  const before = ["", "", ""];
  const text = (which, shared, rest) => (shared || rest ? (before[which] = before[which].slice(0, shared) + rest) : "");
  return rows.map((row, order) => {
    const path = text(1, row[7], row[8]);
    const item = { order, source: text(0, row[0], row[1]), frames: row[2], sheet: sheets[row[3]], cell: row[4] };
    const link = text(2, row[9], row[10]).replace("\n", () => path);
    return Object.assign(item, { width: row[5], height: row[6], annotated: places(path, link), found: row.slice(11) });
  });
}

// Boxes and shapes: see overlay.py.
const BOX = 8;
const [KEYPOINTS, MASK] = [1, 2];
const DIGITS = new Uint8Array(128);
[..."ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"].forEach((sign, digit) => (DIGITS[sign.charCodeAt(0)] = digit));

function bits(text, at, length) {
  let value = 0;
  for (let place = at; place < at + length; place += 1) value = value * 64 + DIGITS[text.charCodeAt(place)];
  return value;
}

const stepOf = (boxes, row) => bits(boxes, row * BOX + 6, 2) & 255;

function boxOf(boxes, row) {
  const [first, rest] = [bits(boxes, row * BOX, 5), bits(boxes, row * BOX + 5, 3)];
  return [first >> 20, (first >> 10) & 1023, first & 1023, rest >> 8].map((value) => value / 1023);
}

function shapeOf(shapes, at) {
  const [kind, length] = [bits(shapes, at, 2), bits(shapes, at + 2, 2)];
  const points = [];
  for (let place = at + 4; place < at + 4 + 4 * length; place += 4) {
    points.push([bits(shapes, place, 2), bits(shapes, place + 2, 2)].map((value) => (2 * value) / 4095 - 0.5));
  }
  return { kind, points, end: at + 4 + 4 * length };
}

// How often a class was found with at least this step of confidence: by its pairs of step and count, else by its boxes.
function sum(steps, from, least) {
  let count = 0;
  for (let at = from; at < steps.length && steps[at] >= least; at += 2) count += steps[at + 1];
  return count;
}

function countOf(each, least) {
  if (each.length > 3) return sum(each, 3, least);
  let [low, high] = [0, each[1].length / BOX];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (stepOf(each[1], middle) >= least) low = middle + 1;
    else high = middle;
  }
  return low;
}

const surestOf = (each) => (each.length > 3 ? each[3] : stepOf(each[1], 0));

// Opened by a presigned link, the page needs a link for each picture, too. Elsewhere they lie beside it: in the front page
// and in a downloaded folder, which outlive the links. The other place is tried next.
function places(path, link) {
  if (!path) return [];
  const relative = `./${path.split("/").map(encodeURIComponent).join("/")}`;
  if (!link) return [relative];
  return SIGNED ? [link, relative] : [relative, link];
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

// ---- sheets: fetched when a card that is to be seen needs one -------------------------------------------------------

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
    // Decoding here would stop the page; if it is refused, drawing decodes.
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

// ---- what was found, drawn over a picture ---------------------------------------------------------------------------

const DENSE = 24; // from so many on lines are thin
const SMALL = 14; // pixels of a side below which they are thin, too
const LABELLED = 30; // so many have their labels at once if a picture is large
let spot = null; // the class that somebody points at

function marks(item) {
  const list = [];
  for (const [id, boxes, shapes = ""] of item.found) {
    if (chosen.size && !chosen.has(id)) continue;
    for (let row = 0, at = 0; row * BOX < boxes.length; row += 1) {
      const step = stepOf(boxes, row);
      if (step < lowest) break;
      const shape = shapes ? shapeOf(shapes, at) : { points: [], end: 0 };
      at = shape.end;
      list.push({ id, step, box: boxOf(boxes, row), ...shape });
    }
  }
  const area = ({ box: [left, top, right, bottom] }) => (right - left) * (bottom - top);
  return list.sort((one, other) => area(other) - area(one));
}

// Where the picture is on a canvas that lies over its cell, or over its bare picture, in pixels of the canvas.
function placed(canvas, item, bare) {
  const [wide, high] = fitted(item);
  const [across, down] = bare ? [wide, high] : [CELL_WIDTH, CELL_HEIGHT];
  const [gainX, gainY] = [canvas.width / Math.max(across - 2, 1), canvas.height / Math.max(down - 2, 1)];
  const [left, top] = [Math.floor((across - wide) / 2) - 1, Math.floor((down - high) / 2) - 1];
  return { left: left * gainX, top: top * gainY, wide: wide * gainX, high: high * gainY };
}

function overlay(canvas, item, { bare = false, pointed = null } = {}) {
  const [gain, list] = [devicePixelRatio, marks(item)];
  canvas.width = Math.round(canvas.clientWidth * gain);
  canvas.height = Math.round(canvas.clientHeight * gain);
  if (!canvas.width || !canvas.height) return;
  const place = placed(canvas, item, bare);
  const context = canvas.getContext("2d");
  const on = pointed && pointedAt(list, pointed, canvas, place, gain);
  for (const mark of list) {
    const marked = mark === on || mark.id === spot;
    context.globalAlpha = (on || spot !== null) && !marked ? 0.2 : 1;
    const broad = list.length > DENSE ? Infinity : SMALL * gain;
    trace(context, mark, place, gain, marked ? 0 : broad);
  }
  context.globalAlpha = 1;
  if (on) label(context, on, place, gain);
  else if (bare && list.length <= LABELLED) for (const mark of list) label(context, mark, place, gain);
}

// A side of `broad` pixels or more gets a line of two.
function trace(context, { id, box, kind, points }, place, gain, broad) {
  const at = ([x, y]) => [place.left + x * place.wide, place.top + y * place.high];
  const [[left, top], [right, bottom]] = [at(box.slice(0, 2)), at(box.slice(2))];
  const line = Math.max(Math.round((Math.min(right - left, bottom - top) >= broad ? 2 : 1) * gain), 1);
  Object.assign(context, { strokeStyle: classes.get(id).colour, fillStyle: classes.get(id).colour, lineWidth: line, lineJoin: "round" });
  context.beginPath();
  if (points.length && kind !== KEYPOINTS) {
    points.forEach((point) => context.lineTo(...at(point)));
    context.closePath();
  } else {
    // On whole pixels, or a thin line is a broad and pale one.
    const [x, y] = [left, top].map((value) => Math.max(Math.round(value), 0) + line / 2);
    const [endX, endY] = [Math.min(Math.round(right), context.canvas.width), Math.min(Math.round(bottom), context.canvas.height)];
    context.rect(x, y, Math.max(endX - x - line / 2, 1), Math.max(endY - y - line / 2, 1));
  }
  if (kind === MASK) fillLightly(context);
  context.stroke();
  if (kind === KEYPOINTS) body(context, points.map((point) => (point[0] > 1.49 ? null : at(point))), line);
}

function fillLightly(context) {
  const { globalAlpha } = context;
  context.globalAlpha = globalAlpha * 0.22;
  context.fill();
  context.globalAlpha = globalAlpha;
}

function body(context, points, line) {
  context.beginPath();
  for (const [one, other] of points.length === 17 ? data.limbs : []) {
    if (points[one] && points[other]) {
      context.moveTo(...points[one]);
      context.lineTo(...points[other]);
    }
  }
  context.stroke();
  for (const point of points) {
    if (!point) continue;
    context.beginPath();
    context.arc(...point, line * 1.2, 0, 7);
    context.fill();
  }
}

// The smallest mark around a place of the canvas.
function pointedAt(list, [x, y], canvas, place, gain) {
  const reach = 3 * gain;
  return list.findLast(({ box: [left, top, right, bottom] }) => {
    const [across, down] = [x * canvas.width - place.left, y * canvas.height - place.top];
    return across > left * place.wide - reach && across < right * place.wide + reach && down > top * place.high - reach && down < bottom * place.high + reach;
  });
}

function label(context, { id, step, box }, place, gain) {
  const { name, colour } = classes.get(id);
  const text = `${name.length > 40 ? `${name.slice(0, 39)}…` : name} ${(step / STEPS).toFixed(2)}`;
  const high = Math.round(17 * gain);
  context.font = `600 ${11.5 * gain}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const wide = Math.ceil(context.measureText(text).width + 8 * gain);
  const x = Math.max(Math.min(place.left + box[0] * place.wide, context.canvas.width - wide), 0);
  const above = place.top + box[1] * place.high - high;
  const y = above >= 0 ? above : Math.max(place.top + box[1] * place.high, 0);
  context.fillStyle = colour;
  context.fillRect(x, y, wide, high);
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  context.fillStyle = 0.3 * red + 0.59 * green + 0.11 * blue > 140 ? "#000" : "#fff";
  context.fillText(text, x + 4 * gain, y + high / 2);
}

// ---- which pictures are held, and which are drawn -------------------------------------------------------------------

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
  overlay(card.marked, card.item);
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
  const sorted = counts(item).sort((one, other) => other[1] - one[1]);
  for (const [id, count, surest] of sorted.slice(0, longest)) {
    const each = classes.get(id);
    const entry = make("span", "tally");
    const dot = make("i");
    dot.style.background = each.colour;
    entry.append(dot, make("bdi", "", each.name), make("b", "", number(count)));
    entry.title = `${each.name}: ${number(count)}, at most ${(surest / STEPS).toFixed(2)}`;
    entry.dataset.class = id;
    list.append(entry);
  }
  const rest = sorted.length - longest;
  if (rest > 0) list.append(make("span", "more", `+${rest}`));
  if (!sorted.length) list.append(make("span", "none", item.found.length ? `none of ${number(everything(item))}` : "nothing found"));
  return list;
}

function makeCard(item, position) {
  const node = make("button", "card");
  const frame = make("span", "frame");
  const canvas = make("canvas");
  const marked = make("canvas", "marks");
  const best = make("span", "badge best");
  const name = item.source.split("/").pop();
  node.type = "button";
  node.title = item.source;
  node.dataset.position = position;
  best.title = "highest confidence";
  frame.append(canvas, marked, best);
  if (item.frames) frame.append(make("span", "badge film", `▶ ${number(item.frames)}${shape.width < 190 ? "" : " frames"}`));
  node.append(frame, make("bdi", "name", name), make("span"));
  const card = { node, canvas, marked, best, item, painted: false };
  tell(card);
  return card;
}

// What a card says of what the filters leave.
function tell({ node, best, item }) {
  const described = counts(item).map(([id, count]) => `${count} ${classes.get(id).name}`).join(", ");
  const name = item.source.split("/").pop();
  node.setAttribute("aria-label", `${item.frames ? "video " : ""}${name}: ${described || "nothing found"}`);
  best.textContent = (surest(item) / STEPS).toFixed(2);
  best.hidden = !described;
  node.lastChild.replaceWith(tallies(item, shape.width < 190 ? 1 : 2));
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
    const follower = [...grid.children].find((node) => Number(node.dataset.position) > position);
    grid.insertBefore(card.node, follower ?? null);
    paint(card);
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

function mark() {
  for (const card of mounted.values()) if (card.painted) overlay(card.marked, card.item);
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
let lowest = 0; // the step of confidence below which nothing is shown or counted

const counted = (item) => (chosen.size ? item.found.filter(([id]) => chosen.has(id)) : item.found);
const total = (item) => counted(item).reduce((count, each) => count + countOf(each, lowest), 0);
const everything = (item) => item.found.reduce((count, each) => count + countOf(each, 0), 0);
const surest = (item) => counted(item).reduce((most, each) => Math.max(most, surestOf(each)), -1);
const isSeen = (each) => surestOf(each) >= lowest;
const counts = (item) => counted(item).filter(isSeen).map((each) => [each[0], countOf(each, lowest), surestOf(each)]);
const orders = {
  name: (item) => item.lower,
  most: (item) => -total(item),
  sure: (item) => -surest(item),
  unsure: surest,
};
const kinds = {
  all: () => true,
  some: (item) => item.found.some(isSeen),
  none: (item) => !item.found.some(isSeen),
  video: (item) => item.frames > 0,
};
for (const item of items) item.lower = item.source.toLowerCase();

// Whoever moves the slider sees boxes go, not pictures: as if the run had been made with that confidence.
function wanted(item, text) {
  if (text && !item.lower.includes(text)) return false;
  if (!kinds[show](item)) return false;
  return !chosen.size || counted(item).some(isSeen);
}

function filter() {
  lowest = Math.round(Number(byId("confidence").value) * STEPS);
  const before = shown;
  const text = byId("search").value.trim().toLowerCase();
  const key = orders[byId("sort").value];
  shown = items.filter((item) => wanted(item, text));
  if (key) {
    const keys = new Map(shown.map((item) => [item, key(item)]));
    shown.sort((a, b) => (keys.get(a) < keys.get(b) ? -1 : Number(keys.get(a) > keys.get(b))));
  }
  const active = chosen.size + (lowest > 0) + (text !== "") + (show !== "all");
  byId("lowest").textContent = lowest ? `at least ${(lowest / STEPS).toFixed(2)}` : "any";
  byId("shown").textContent = `${number(shown.length)} of ${number(items.length)}`;
  byId("active").textContent = active || "";
  byId("reset").hidden = !active;
  byId("all").hidden = !chosen.size;
  byId("nothing").hidden = shown.length > 0 || !items.length;
  for (const node of byId("classes").children) press(node, chosen.has(Number(node.dataset.class)));
  count();
  for (const node of byId("show").children) press(node, node.dataset.show === show);
  const bars = [...byId("histogram").children];
  bars.forEach((bar, index) => bar.classList.toggle("off", ((index + 1) * STEPS) / bars.length <= lowest));
  if (shown.length !== before.length || shown.some((item, at) => item !== before[at])) {
    redraw();
    return;
  }
  mounted.forEach(tell);
  mark();
}

// Of the whole run, also of what has no place on this page.
function count() {
  let [left, all] = [0, 0];
  for (const node of byId("classes").children) {
    const { id, steps } = classes.get(Number(node.dataset.class));
    const found = sum(steps, 0, lowest);
    all += sum(steps, 0, 0);
    if (!chosen.size || chosen.has(id)) left += found;
    node.querySelector("b").textContent = number(found);
    node.querySelector(".share span").style.width = found ? `max(2px, ${(100 * found) / highest}%)` : 0;
  }
  byId("detections").textContent = number(left);
  byId("of").textContent = left === all ? "detections" : `of ${number(all)} detections`;
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

function classButton({ id, name, colour }) {
  const node = make("button", "class");
  const dot = make("i");
  const bar = make("span", "share");
  const fill = make("span");
  node.type = "button";
  node.title = name;
  node.dataset.class = id;
  dot.style.background = fill.style.background = colour;
  bar.append(fill);
  node.append(dot, make("bdi", "", name), make("b"), bar);
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
  const node = sized(make("span", "thumbnail"), item);
  const canvas = make("canvas");
  const image = item.sheet.state === "here" ? item.sheet.image : load(new Image(), item.sheet.order, () => {});
  if (image.complete && image.naturalWidth) cut(canvas, image, item, true);
  else image.addEventListener("load", () => cut(canvas, image, item, true));
  node.append(canvas, make("canvas", "marks"));
  return node;
}

function markEnlarged(pointed = null) {
  const node = document.querySelector(".thumbnail .marks");
  if (node) overlay(node, shown[open], { bare: true, pointed });
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
  const [drawn, found] = [marks(item).length, total(item)];
  // In the file itself everything is drawn: show it if the filters hide nothing, or if it moves.
  const isWhole = found === everything(item) || item.frames > 0;
  const isFile = item.annotated.length > 0 && isWhole;
  byId("stage").replaceChildren(under);
  if (isFile) byId("stage").append(media(item, under));
  byId("name").textContent = item.source;
  const facts = [`${item.width} × ${item.height}`, `${number(position + 1)} of ${number(shown.length)}`];
  if (!isFile && drawn && drawn < found && !item.frames) facts.unshift(`the surest ${number(drawn)} boxes`);
  if (!isWhole) facts.unshift(`${number(found)} of ${number(everything(item))} detections`);
  if (!isFile) facts.unshift("thumbnail");
  byId("facts").textContent = facts.join(" · ");
  byId("file").hidden = !item.annotated.length;
  if (item.annotated.length) byId("file").href = item.annotated[0];
  byId("caption").replaceChildren(tallies(item, 12));
  byId("back").disabled = position === 0;
  byId("next").disabled = position === shown.length - 1;
  if (!byId("viewer").open) byId("viewer").showModal();
  markEnlarged();
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
function within(node, event) {
  const area = node.getBoundingClientRect();
  return [(event.clientX - area.left) / area.width, (event.clientY - area.top) / area.height];
}

let pointed = null; // the card whose boxes the mouse is at
byId("grid").addEventListener("pointermove", (event) => {
  const frame = event.target.closest(".frame");
  const card = frame ? mounted.get(Number(frame.parentNode.dataset.position)) : null;
  if (pointed && pointed !== card) overlay(pointed.marked, pointed.item);
  pointed = card?.painted ? card : null;
  if (pointed) overlay(card.marked, card.item, { pointed: within(frame, event) });
});
byId("grid").addEventListener("pointerleave", () => {
  if (pointed) overlay(pointed.marked, pointed.item);
  pointed = null;
});
byId("stage").addEventListener("pointermove", (event) => {
  const node = event.target.closest(".thumbnail");
  if (node) markEnlarged(within(node, event));
});
document.addEventListener("pointerover", (event) => {
  const id = event.target.closest("[data-class]")?.dataset.class;
  const now = id === undefined ? null : Number(id);
  if (now === spot) return;
  spot = now;
  mark();
  markEnlarged();
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
  mark();
  markEnlarged();
}

// Drawing within the observer would change what it observes.
new ResizeObserver(() => requestAnimationFrame(resized)).observe(document.querySelector("main"));

const highest = Math.max(1, ...[...classes.values()].map((each) => sum(each.steps, 0, 0)));
byId("classes").append(...[...classes.values()].map(classButton));
byId("find").hidden = classes.size <= 12;
if (!SIGNED) for (const link of document.querySelectorAll("[data-path]")) link.href = `./${link.dataset.path}`;
if (data.total > items.length) {
  byId("partial").hidden = false;
  byId("partial").textContent = `The first ${number(items.length)} of ${number(data.total)} are shown here; all are in predictions.parquet and pictures.parquet.`;
}
if (data.cut) {
  byId("crowded").hidden = false;
  byId("crowded").textContent = `Of ${number(data.cut)} ${data.cut === 1 ? "picture" : "pictures"} with very many detections only the surest boxes are drawn here; all are counted.`;
}
if (matchMedia("(max-width: 899px)").matches) byId("filters").open = false;
filter();
