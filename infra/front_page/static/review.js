"use strict";
// Review with the keyboard: a picture, its suggestions, and what a person says of each. Nothing is kept here but the image
// that is shown: an answer is sent at once, and the server says what is done.
const $ = id => document.getElementById(id);
const { run, images, task } = $("review").dataset;
const COLOURS = new Map(JSON.parse($("classes").textContent)), CLASSES = [...COLOURS.keys()];
const TOKEN = document.querySelector("meta[name=studio-token]").content;
const SVG = "http://www.w3.org/2000/svg";
const LONGEST_S = 3600;
const total = Number(images);
let number = 0, answered = [], over = false, goesOn = true, shown = null, chosen = 0, opened = 0, busy = false;

const colour = name => COLOURS.get(name);
const address = (kind, at) => `/reviews/${run}/${kind}/${at}`;

function tell(text) {
  $("trouble").hidden = !text;
  $("trouble").textContent = text;
}

async function ask(path, options) {
  let reply;
  try {
    reply = await fetch(path, options);
  } catch {
    throw new Error("The studio does not answer: see `studio status`, then press the key again.");
  }
  if (reply.ok) return reply.headers.get("Content-Type").startsWith("application/json") ? reply.json() : reply.text();
  const page = new DOMParser().parseFromString(await reply.text(), "text/html");
  throw new Error(page.querySelector(".outage")?.textContent.trim() || `The studio answered ${reply.status}: reload the page.`);
}

const act = (path, body) => ask(`/reviews/${run}/${path}`, { method: "POST", body, headers: { "X-Studio-Token": TOKEN } });

async function show(at) {
  if (busy || at < 0 || at >= total) return;
  busy = true;
  try {
    const image = await ask(address("images", at));
    number = at;
    shown = { ...image, names: image.shapes.map(each => each.name), kept: image.shapes.map(() => true) };
    if (image.answer?.verdict === "done") {
      shown.kept = image.shapes.map((_, place) => place in image.answer.kept);
      shown.names = image.shapes.map((each, place) => image.answer.kept[place] ?? each.name);
    }
    chosen = 0;
    opened = performance.now();
    tell("");
    draw();
  } catch (error) {
    tell(error.message);
  } finally {
    busy = false;
  }
}

function part(name, attributes, parent) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent.append(element);
  return element;
}

function draw() {
  const { width, height, shapes, names, kept } = shown, stage = $("stage");
  stage.setAttribute("viewBox", `0 0 ${width} ${height}`);
  stage.replaceChildren();
  const image = shown, picture = part("image", { href: address("pictures", number), width, height }, stage);
  picture.addEventListener("load", () => see(image, true));
  picture.addEventListener("error", () => see(image, false));
  const size = Math.max(width, height) / 45;
  shapes.forEach((shape, place) => {
    const group = part("g", { class: `${kept[place] ? "kept" : "refused"}${place === chosen ? " chosen" : ""}`, stroke: colour(names[place]) }, stage);
    shape.rings.forEach(ring => part("polygon", { points: ring.map(corner => corner.join(",")).join(" "), "vector-effect": "non-scaling-stroke" }, group));
    shape.points.forEach(([cx, cy]) => part("circle", { cx, cy, r: size / 4, fill: colour(names[place]) }, group));
    if (place === chosen && shape.rings.length) {
      const [x, y] = shape.rings[0].reduce((one, other) => (other[1] < one[1] ? other : one));
      const label = part("text", { x, y: Math.max(y - size / 4, size), "font-size": size }, group);
      label.textContent = names[place];
    }
    group.addEventListener("click", () => choose(place));
  });
  $("suggestions").replaceChildren(...shapes.map((shape, place) => line(shape, place)));
  $("nothing").hidden = shapes.length > 0;
  $("place").textContent = `Image ${number + 1} of ${total}`;
  $("image-name").textContent = shown.name;
  $("reason").textContent = `Why this image: ${shown.reason}`;
  $("reason").hidden = !shown.reason;
  $("done").value = answered.filter(Boolean).length;
  const verdict = { done: "submitted", skipped: "skipped", set_aside: "set aside: an object is missing" }[shown.answer?.verdict];
  $("count").textContent = `${$("done").value} done${verdict ? `, this one ${verdict}` : ""}`;
  for (const id of ["submit", "set-aside"]) $(id).disabled = over || !shown.seen;
  $("skip").disabled = over;
  $("all-done").hidden = over || !goesOn || $("done").value < total;
}

// Nobody has looked at a picture that is not there yet, or that the browser cannot show.
function see(image, seen) {
  if (image !== shown) return;
  shown.seen = seen;
  if (!seen && !over) tell("The browser cannot show this picture: skip it.");
  for (const id of ["submit", "set-aside"]) $(id).disabled = over || !seen;
}

function line(shape, place) {
  const item = document.createElement("li"), select = document.createElement("select"), refuse = document.createElement("button");
  item.className = `${shown.kept[place] ? "" : "refused"}${place === chosen ? " chosen" : ""}`;
  select.append(...CLASSES.map(name => new Option(name, name, false, name === shown.names[place])));
  select.setAttribute("aria-label", `Class of suggestion ${place + 1}`);
  select.addEventListener("change", () => rename(place, select.value));
  const score = document.createElement("span");
  score.className = "soft";
  score.textContent = shape.confidence.toFixed(2);
  refuse.className = "small";
  refuse.textContent = shown.kept[place] ? "Refuse" : "Take back";
  refuse.addEventListener("click", () => toggle(place));
  item.append(select, score, refuse);
  item.addEventListener("pointerdown", event => event.target === item && choose(place));
  return item;
}

function choose(place) {
  if (!shown?.shapes[place]) return;
  chosen = place;
  draw();
  $("suggestions").children[place].scrollIntoView({ block: "nearest" });
}

function toggle(place) {
  if (!shown?.shapes[place]) return;
  shown.kept[place] = !shown.kept[place];
  choose(place);
}

function rename(place, name) {
  if (!shown?.shapes[place] || !name) return;
  shown.names[place] = name;
  shown.kept[place] = true;
  choose(place);
}

async function answer(verdict) {
  if (busy || over || !shown || (!shown.seen && verdict !== "skipped")) return;
  // Of an image as a whole nothing stays if its class is refused.
  const kept = Object.fromEntries(shown.names.flatMap((name, place) => (shown.kept[place] ? [[place, name]] : [])));
  if (verdict === "done" && task === "classify" && !Object.keys(kept).length) verdict = "skipped";
  busy = true;
  try {
    const seconds = Math.min((performance.now() - opened) / 1000, LONGEST_S);
    const body = JSON.stringify({ verdict, kept: verdict === "done" ? kept : {}, seconds });
    await act(`answers/${number}`, body);
    answered[number] = true;
    shown.answer = { verdict, kept };
  } catch (error) {
    return tell(error.message);
  } finally {
    busy = false;
  }
  const open = [...answered.keys()].map(at => (number + 1 + at) % total).find(at => !answered[at]);
  if (open === undefined) draw();
  else await show(open);
}

const KEYS = {
  Enter: () => answer("done"), m: () => answer("set_aside"), s: () => answer("skipped"),
  ArrowLeft: () => show(number - 1), ArrowRight: () => show(number + 1),
  ArrowUp: () => choose(chosen - 1), ArrowDown: () => choose(chosen + 1), x: () => toggle(chosen), Delete: () => toggle(chosen),
};
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, a, summary")) return;
  if (event.key === "Enter" && event.target.closest("button")) return; // it is pressed
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const act = /^[1-9]$/.test(key) ? () => rename(chosen, CLASSES[key - 1]) : KEYS[key];
  if (!act) return;
  event.preventDefault();
  if (!event.repeat || key.startsWith("Arrow")) act(); // a key that is held answers for one image
});
for (const [id, key] of Object.entries({ submit: "Enter", "set-aside": "m", skip: "s", previous: "ArrowLeft", next: "ArrowRight" })) {
  $(id).addEventListener("click", event => {
    if (event.detail) $(id).blur(); // clicked, so that Enter submits
    KEYS[key]();
  });
}

// What has become of a round that waits for nobody.
function tellStanding({ standing, can_be_retried: canBeRetried, has_report: hasReport }) {
  goesOn = !standing;
  $("standing").hidden = goesOn;
  $("standing").querySelector("p").textContent = standing;
  $("retry").hidden = !canBeRetried;
  $("report").hidden = !hasReport;
}

$("retry").addEventListener("click", async () => {
  $("retry").disabled = true;
  try {
    await ask(`/runs/${run}/retry`, { method: "POST", headers: { "X-Studio-Token": TOKEN } });
    location.reload();
  } catch (error) {
    tell(error.message);
    $("retry").disabled = false;
  }
});

(async () => {
  try {
    const round = await ask(`/reviews/${run}/answered`);
    ({ answered, over } = round);
    tellStanding(round);
    await show(Math.max(answered.indexOf(false), 0));
    if (goesOn && answered.every(Boolean)) await act("resume");
  } catch (error) {
    tell(error.message);
  }
})();
