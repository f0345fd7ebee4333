"use strict";
const $ = id => document.getElementById(id);
const SHAPES = { segment: "Masks", obb: "Turned boxes", pose: "Keypoints" };
// The bones of the 17 points of COCO's people.
const BONES = [[15, 13], [13, 11], [16, 14], [14, 12], [11, 12], [5, 11], [6, 12], [5, 6], [5, 7], [6, 8], [7, 9], [8, 10], [1, 2], [0, 1], [0, 2], [1, 3], [2, 4], [3, 5], [4, 6]];
const WEBCAM_SIDE = 1280, ASK_AFTER_MS = 150;

let models = [];
let photo = null;     // the file that was picked, to be sent again
let shown = null;     // { source, bitmap, answer, took }
let hidden = new Set();
let newest = 0;       // number of the newest request: answers to older ones are dropped
let stream = null;
let camera = 0;       // number of the newest wish for the webcam, or to be without it
let opening = false;
let fps = 0;

const model = () => models.find(each => each.name === $("model").value);
const isOn = id => $(id).getAttribute("aria-pressed") === "true";

// The same colour by class id as in drawings, films and the gallery: tasks/rendering/palette.py, which a test holds to it.
const classColour = id => `hsl(${(id * 137.508 + 300) % 360} 90% ${[55, 35, 77][Math.floor(id / 8) % 3]}%)`;
const classId = label => Math.max(model()?.classes.indexOf(label) ?? 0, 0);
const colour = label => classColour(classId(label));
const isBright = label => {
  const id = classId(label), hue = (id * 137.508 + 300) % 360, step = Math.floor(id / 8) % 3;
  return step === 2 || (step === 0 && hue > 38 && hue < 195);
};

function tell(message) {
  $("error").textContent = message;
  $("error").hidden = !message;
}

// With the origin: an address that was opened with user and password in it is none that fetch takes.
async function load() {
  try {
    const answer = await fetch(`${location.origin}/models`);
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.error);
    const before = $("model").value;
    models = found;
    $("model").replaceChildren(...models.map(each => new Option(`${each.name} · version ${each.version} · ${each.task}`, each.name)));
    if (models.some(each => each.name === before)) $("model").value = before;
    $("model").disabled = !models.length;
    settle();
    if (!models.length) tell("Triton serves no model yet: run deploy-model, then reload this page.");
  } catch (error) {
    tell(`The list of models could not be read: ${error.message}`);
  }
}

// What the task of the model has to be set. A box around a turned one only hides it.
function settle() {
  const task = model()?.task;
  $("boxes").setAttribute("aria-pressed", String(task !== "obb"));
  $("threshold").hidden = $("switches").hidden = task === "classify";
  $("shapes").hidden = !(task in SHAPES);
  $("shapes").textContent = SHAPES[task] ?? "Masks";
  $("auto").hidden = !model()?.thresholds;
  choose(isOn("auto") && !$("auto").hidden);
}

// Least confidence: one for all by the slider, or the version's own threshold of each class.
function choose(auto) {
  $("auto").setAttribute("aria-pressed", String(auto));
  $("shown").textContent = auto ? "auto" : Number($("confidence").value).toFixed(2);
}

async function ask(blob) {
  if (!model()) throw new Error("there is no model to ask: deploy one, then reload this page");
  const query = new URLSearchParams(model().task === "classify" ? {} : { confidence: isOn("auto") ? "auto" : $("confidence").value });
  const began = performance.now();
  let answer;
  try {
    answer = await fetch(`${location.origin}/predict/${encodeURIComponent(model().name)}?${query}`, { method: "POST", body: blob });
  } catch {
    throw new Error("the server behind this page does not answer: see `studio status`");
  }
  const body = await answer.json().catch(() => ({ error: `status ${answer.status}` }));
  if (!answer.ok) throw new Error(body.error);
  return { answer: body, took: performance.now() - began };
}

async function look(source, bitmapOf) {
  const number = ++newest;
  $("canvas").classList.add("busy");
  try {
    // The server first: it says better than a browser what is wrong with a file.
    const found = await ask(source), bitmap = await bitmapOf();
    if (number !== newest) return;
    shown = { source, bitmap, ...found };
    tell("");
    render();
  } catch (error) {
    if (number !== newest) return;
    tell(error.message.charAt(0).toUpperCase() + error.message.slice(1));
    if (!stream && shown?.source !== source) clear();
  } finally {
    if (number === newest) $("canvas").classList.remove("busy");
  }
}

function lookAtPhoto() {
  if (!photo) return;
  const file = photo, same = shown?.source === file ? shown.bitmap : null;
  look(file, async () => same ?? createImageBitmap(file).catch(() => { throw new Error("this browser cannot show that file as a picture: pick a JPEG or PNG"); }));
}

function clear() {
  shown = null;
  $("canvas").hidden = true;
  $("empty").hidden = false;
  $("facts").replaceChildren();
  $("classes").replaceChildren();
  $("none").hidden = false;
  $("classhint").textContent = $("json").textContent = "";
  $("none").textContent = "Nothing looked at yet.";
}

function pick(file) {
  if (!file) return;
  stopWebcam();
  photo = file;
  lookAtPhoto();
}

// ---- drawing ------------------------------------------------------------------------------------------------------

function render() {
  const { bitmap, answer } = shown, canvas = $("canvas"), ctx = canvas.getContext("2d");
  // Places in the answer are pixels of the picture as the server decoded it; a browser may have made it another size.
  [canvas.width, canvas.height] = [answer.width, answer.height];
  canvas.hidden = false;
  $("empty").hidden = true;
  ctx.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  // Lines are as thick on the screen whatever the picture's size.
  const unit = Math.max(canvas.width / (canvas.clientWidth || canvas.width), .5);
  const rows = (answer.boxes ?? []).map((box, i) => ({ box, i, label: answer.labels[i], score: answer.scores[i] })).filter(row => !hidden.has(row.label));
  ctx.lineJoin = ctx.lineCap = "round";
  // A small mask lies on a large one, a likely label on an unlikely one.
  if (isOn("shapes")) for (const row of rows.toSorted((a, b) => area(b.box) - area(a.box))) drawShape(ctx, answer, row, unit);
  if (isOn("boxes")) for (const row of rows) strokeTwice(ctx, unit, colour(row.label), () => ctx.rect(row.box[0], row.box[1], row.box[2] - row.box[0], row.box[3] - row.box[1]));
  if (isOn("labels")) for (const row of rows.toReversed()) drawLabel(ctx, isOn("boxes") ? row.box : peak(answer.polygons?.[row.i]) ?? row.box, row.label, row.score, unit);
  describe(answer);
}

const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);
const peak = ring => ring?.length ? ring.reduce((best, point) => point[1] < best[1] ? point : best) : null;

function strokeTwice(ctx, unit, paint, path) {
  for (const [width, style] of [[4, "rgb(0 0 0 / .35)"], [2.4, paint]]) {
    ctx.beginPath();
    path();
    ctx.lineWidth = width * unit;
    ctx.strokeStyle = style;
    ctx.stroke();
  }
}

function drawShape(ctx, answer, row, unit) {
  const paint = colour(row.label), ring = answer.polygons?.[row.i], points = answer.keypoints?.[row.i];
  if (ring?.length) {
    const path = () => { ring.forEach(([x, y], n) => n ? ctx.lineTo(x, y) : ctx.moveTo(x, y)); ctx.closePath(); };
    if (answer.task === "segment") {
      ctx.beginPath();
      path();
      ctx.globalAlpha = .38;
      ctx.fillStyle = paint;
      ctx.fill();
      ctx.globalAlpha = 1;
    }
    strokeTwice(ctx, unit * (answer.task === "segment" ? .7 : 1), paint, path);
  }
  if (points) {
    const seen = points.map(point => point[2] > .5);
    if (points.length === 17) for (const [a, b] of BONES) if (seen[a] && seen[b]) strokeTwice(ctx, unit, paint, () => { ctx.moveTo(points[a][0], points[a][1]); ctx.lineTo(points[b][0], points[b][1]); });
    points.forEach(([x, y], n) => {
      if (!seen[n]) return;
      ctx.beginPath();
      ctx.arc(x, y, 3.6 * unit, 0, 7);
      ctx.fillStyle = "#fff";
      ctx.fill();
      ctx.lineWidth = 2 * unit;
      ctx.strokeStyle = paint;
      ctx.stroke();
    });
  }
}

function drawLabel(ctx, [x1, y1], label, score, unit) {
  const text = `${label} ${score.toFixed(2)}`;
  ctx.font = `600 ${13 * unit}px system-ui, "Segoe UI", Roboto, sans-serif`;
  const wide = ctx.measureText(text).width + 12 * unit, high = 20 * unit;
  const x = Math.max(0, Math.min(x1 - 1.2 * unit, ctx.canvas.width - wide)), y = y1 >= high ? y1 - high : y1;
  ctx.fillStyle = colour(label);
  ctx.beginPath();
  ctx.roundRect(x, y, wide, high, 4 * unit);
  ctx.fill();
  ctx.fillStyle = isBright(label) ? "#0b0d12" : "#fff";
  ctx.textBaseline = "middle";
  ctx.fillText(text, x + 6 * unit, y + high / 2 + unit);
}

function describe(answer) {
  const facts = [["size", `${answer.width} × ${answer.height}`], ["server", `${answer.milliseconds} ms`], ["round trip", `${Math.round(shown.took)} ms`], ["version", answer.version]];
  if (answer.boxes) facts.unshift(["found", answer.boxes.length]);
  if (stream) facts.push(["frames/s", fps.toFixed(1)]);
  $("facts").replaceChildren(...facts.map(([name, value]) => node("div", {}, node("dt", {}, name), node("dd", { id: `fact-${name.replace(/\W/g, "-")}` }, value))));
  const words = answer.boxes ? `${answer.boxes.length} found: ${[...tally(answer)].map(([label, count]) => `${count} ${label}`).join(", ")}` : "";
  $("canvas").setAttribute("aria-label", words || "The picture");
  $("json").textContent = $("details").open ? JSON.stringify(answer, null, 1).replace(/\[\s+([^[\]{}]*?)\s+\]/g, (_, inner) => `[${inner.replace(/\s+/g, " ")}]`) : "";
  if (answer.task === "classify") shares(answer); else classes(tally(answer));
}

function tally(answer) {
  const counts = new Map();
  for (const label of answer.labels ?? []) counts.set(label, (counts.get(label) ?? 0) + 1);
  return new Map([...counts].sort((a, b) => b[1] - a[1]));
}

function classes(counts) {
  for (const label of hidden) if (!counts.has(label)) counts.set(label, 0);
  $("classhint").textContent = counts.size ? "press one to hide it" : "";
  $("none").hidden = counts.size > 0;
  $("none").textContent = "Nothing found: lower the least confidence, or try another picture.";
  const focused = document.activeElement?.dataset?.label;
  $("classes").replaceChildren(...[...counts].map(([label, count]) => {
    const mark = node("i", {});
    mark.style.background = mark.style.borderColor = colour(label);
    return node("li", {}, node("button", { class: "class", "data-label": label, "aria-pressed": String(!hidden.has(label)) }, mark, node("bdi", {}, label), node("b", {}, count)));
  }));
  if (focused !== undefined) [...$("classes").querySelectorAll("button")].find(each => each.dataset.label === focused)?.focus();
}

function shares({ labels, scores }) {
  const best = labels.slice(0, 10).map((label, i) => [label, scores[i]]);
  $("classhint").textContent = "";
  $("none").hidden = best.length > 0;
  $("classes").replaceChildren(...best.map(([label, share]) => {
    const bar = node("i", {});
    bar.style.width = `${share * 100}%`;
    bar.style.background = colour(label);
    return node("li", { class: "share" }, node("bdi", {}, label), node("b", {}, `${(share * 100).toFixed(1)} %`), node("span", {}, bar));
  }));
}

function node(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// ---- webcam: one request at a time, each with the newest frame -----------------------------------------------------

async function startWebcam() {
  if (!navigator.mediaDevices) return tell("A browser gives its webcam only to pages of this machine (127.0.0.1) or with https.");
  if (opening) return;
  opening = true;
  const number = ++camera, video = node("video", { muted: "", playsinline: "" });
  let own = null;
  try {
    own = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: WEBCAM_SIDE }, facingMode: "environment" } });
    video.srcObject = own;
    await video.play();
  } catch (error) {
    own?.getTracks().forEach(track => track.stop());
    return number === camera ? tell(`The webcam could not be opened: ${error.message}`) : undefined;
  } finally {
    opening = false;
  }
  // A photo was picked while the browser asked for permission.
  if (number !== camera) return own.getTracks().forEach(track => track.stop());
  stream = own;
  photo = null;
  fps = 0;
  $("webcam").setAttribute("aria-pressed", "true");
  const [track] = own.getVideoTracks(), gone = () => {
    if (stream !== own) return;
    stopWebcam();
    tell("The webcam gives no more pictures: plug it in, or allow it again, then start it anew.");
  };
  track.addEventListener("ended", gone);
  if (track.readyState === "ended") return gone();
  let before = performance.now();
  while (stream === own) {
    const frame = document.createElement("canvas"), scale = Math.min(1, WEBCAM_SIDE / Math.max(video.videoWidth, video.videoHeight));
    [frame.width, frame.height] = [Math.round(video.videoWidth * scale), Math.round(video.videoHeight * scale)];
    frame.getContext("2d").drawImage(video, 0, 0, frame.width, frame.height);
    const blob = await new Promise(done => frame.toBlob(done, "image/jpeg", .85));
    if (stream !== own) break;
    if (!blob) return gone();
    await look(blob, async () => frame);
    const now = performance.now(), rate = 1000 / (now - before);
    fps = fps ? .8 * fps + .2 * rate : rate;
    before = now;
    // After an error the next request waits a second; a hidden page draws nothing.
    await new Promise(done => $("error").hidden ? requestAnimationFrame(done) : setTimeout(done, 1000));
  }
}

function stopWebcam() {
  stream?.getTracks().forEach(track => track.stop());
  stream = null;
  camera++;
  newest++;
  $("canvas").classList.remove("busy");
  $("webcam").setAttribute("aria-pressed", "false");
}

// ---- what a person does --------------------------------------------------------------------------------------------

let later = 0;
$("file").addEventListener("change", () => { pick($("file").files[0]); $("file").value = ""; });
$("webcam").addEventListener("click", () => stream ? stopWebcam() : startWebcam());
$("model").addEventListener("change", () => { hidden = new Set(); settle(); lookAtPhoto(); });
$("confidence").addEventListener("input", () => {
  choose(false);
  clearTimeout(later);
  later = setTimeout(lookAtPhoto, ASK_AFTER_MS);
});
$("auto").addEventListener("click", () => { choose(!isOn("auto")); lookAtPhoto(); });
for (const id of ["boxes", "shapes", "labels"]) $(id).addEventListener("click", () => { $(id).setAttribute("aria-pressed", String(!isOn(id))); if (shown) render(); });
$("classes").addEventListener("click", event => {
  const label = event.target.closest("button")?.dataset.label;
  if (label === undefined) return;
  hidden.has(label) ? hidden.delete(label) : hidden.add(label);
  render();
});
$("details").addEventListener("toggle", () => shown && describe(shown.answer));
document.addEventListener("paste", event => pick([...event.clipboardData.files].find(file => file.type.startsWith("image/"))));
for (const kind of ["dragover", "dragleave", "drop"]) document.addEventListener(kind, event => {
  event.preventDefault();
  $("frame").classList.toggle("over", kind === "dragover");
  if (kind === "drop") pick(event.dataTransfer.files[0]);
});
addEventListener("resize", () => shown && render());
load();
