"use strict";
const { items, classes } = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const known = new Map(classes.map((each) => [each.id, each]));
const PAGE = 120;
const chosen = new Set();
let onlyEmpty = false;
let shown = [];
let drawn = 0;
let open = -1;

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

// A presigned link expires and a downloaded folder has none: try each place in turn.
function load(node, places) {
  const order = location.protocol === "file:" ? [...places].reverse() : [...places];
  const attempt = () => {
    if (order.length) node.src = order.shift();
    else node.classList.add("missing");
  };
  node.addEventListener("error", attempt);
  attempt();
  return node;
}

function tallies(item, longest) {
  const list = make("span", "tallies");
  for (const [id, count, confidence] of item.classes.slice(0, longest)) {
    const each = known.get(id);
    const entry = make("span", "tally");
    const dot = make("i");
    dot.style.background = each.colour;
    entry.append(dot, make("bdi", "", each.name), make("b", "", count.toLocaleString("en")));
    entry.title = `${each.name}: ${count}, at most ${confidence.toFixed(2)}`;
    list.append(entry);
  }
  const rest = item.classes.length - longest;
  if (rest > 0) list.append(make("span", "tally", `+${rest}`));
  if (!item.classes.length) list.append(make("span", "none", "nothing found"));
  return list;
}

function card(item, position) {
  const node = make("button", "card");
  node.type = "button";
  node.title = item.source;
  const frame = make("span", "frame");
  const picture = make("img");
  picture.loading = "lazy";
  picture.decoding = "async";
  picture.alt = item.source;
  frame.append(load(picture, item.thumbnail));
  if (item.kind === "video") frame.append(make("span", "badge", `▶ ${item.frames.toLocaleString("en")} frames`));
  const name = make("bdi", "name", item.source.split("/").pop());
  node.append(frame, name, tallies(item, 3));
  node.addEventListener("click", () => view(position));
  return node;
}

function more() {
  const grid = byId("grid");
  const end = Math.min(drawn + PAGE, shown.length);
  for (; drawn < end; drawn += 1) grid.append(card(shown[drawn], drawn));
}

const total = (item) => item.classes.reduce((sum, [, count]) => sum + count, 0);
const surest = (item) => Math.max(0, ...item.classes.map(([, , confidence]) => confidence));
const orders = {
  most: (a, b) => total(b) - total(a),
  sure: (a, b) => surest(b) - surest(a),
  unsure: (a, b) => surest(a) - surest(b),
};

function wanted(item, lowest, text) {
  if (text && !item.source.toLowerCase().includes(text)) return false;
  if (onlyEmpty) return item.classes.length === 0;
  if (!chosen.size && lowest === 0) return true;
  return item.classes.some(([id, , confidence]) => confidence >= lowest && (!chosen.size || chosen.has(id)));
}

function filter() {
  const lowest = Number(byId("confidence").value);
  const text = byId("search").value.trim().toLowerCase();
  const order = orders[byId("sort").value];
  shown = items.filter((item) => wanted(item, lowest, text));
  if (order) shown.sort(order);
  drawn = 0;
  byId("grid").replaceChildren();
  byId("lowest").textContent = lowest ? `at least ${lowest.toFixed(2)}` : "all";
  byId("shown").textContent = `${shown.length.toLocaleString("en")} of ${items.length.toLocaleString("en")}`;
  more();
}

function view(position) {
  const item = shown[position];
  if (!item) return;
  open = position;
  const places = item.annotated.length ? item.annotated : item.thumbnail;
  const film = item.kind === "video" && item.annotated.length;
  const media = make(film ? "video" : "img");
  if (film) Object.assign(media, { controls: true, autoplay: true, muted: true, loop: true, playsInline: true });
  else media.alt = item.source;
  byId("stage").replaceChildren(load(media, places));
  byId("name").textContent = item.source;
  const facts = [`${item.width}×${item.height}`, `${position + 1} of ${shown.length}`];
  byId("facts").replaceChildren(tallies(item, 8), make("small", "", facts.join(" · ")));
  byId("back").disabled = position === 0;
  byId("next").disabled = position === shown.length - 1;
  if (!byId("viewer").open) byId("viewer").showModal();
}

function toggle(button, on) {
  button.setAttribute("aria-pressed", String(on));
}

byId("classes").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const id = Number(button.dataset.class);
  if (!chosen.delete(id)) chosen.add(id);
  toggle(button, chosen.has(id));
  onlyEmpty = false;
  toggle(byId("empty"), false);
  filter();
});
byId("empty").addEventListener("click", () => {
  onlyEmpty = !onlyEmpty;
  toggle(byId("empty"), onlyEmpty);
  filter();
});
byId("confidence").addEventListener("input", filter);
byId("search").addEventListener("input", filter);
byId("sort").addEventListener("change", filter);
byId("back").addEventListener("click", () => view(open - 1));
byId("next").addEventListener("click", () => view(open + 1));
byId("close").addEventListener("click", () => byId("viewer").close());
byId("viewer").addEventListener("close", () => byId("stage").replaceChildren());
byId("viewer").addEventListener("click", (event) => {
  if (event.target === byId("viewer") || event.target === byId("stage")) byId("viewer").close();
});
document.addEventListener("keydown", (event) => {
  if (!byId("viewer").open || event.target.tagName === "VIDEO") return;
  if (event.key === "ArrowLeft") view(open - 1);
  if (event.key === "ArrowRight") view(open + 1);
});
new IntersectionObserver((entries) => {
  if (entries.some((entry) => entry.isIntersecting)) more();
}, { rootMargin: "800px" }).observe(byId("more"));

filter();
