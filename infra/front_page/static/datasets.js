"use strict";
// The archives that a training takes: they stay selected while the list is searched, filtered and scrolled.
const selection = document.getElementById("selection");
const LONGEST = Number(selection.dataset.longest); // query of an address
const list = selection.querySelector("ul");
const train = document.getElementById("train"), pipeline = document.getElementById("pipeline");
const chosen = new Map(); // the entries of the selection by name

function leaveOut(name) {
  chosen.get(name).remove();
  chosen.delete(name);
}

function choose(name) {
  const entry = selection.querySelector("template").content.cloneNode(true).firstElementChild;
  entry.querySelector("input").value = name;
  entry.querySelector("bdi").textContent = name;
  entry.querySelector("button").setAttribute("aria-label", `Leave out ${name}`);
  entry.querySelector("button").addEventListener("click", () => {
    leaveOut(name);
    show();
    (list.querySelector("button") ?? document.getElementById("search")).focus();
  });
  list.append(entry);
  chosen.set(name, entry);
}

function show() {
  selection.hidden = chosen.size === 0;
  train.textContent = `Train on ${chosen.size} ${chosen.size === 1 ? "archive" : "archives"}`;
  train.disabled = pipeline.disabled = new URLSearchParams(new FormData(selection)).toString().length > LONGEST;
  document.getElementById("too-many").hidden = !train.disabled;
  for (const box of document.querySelectorAll("[data-archive]")) box.checked = chosen.has(box.value);
}

document.addEventListener("change", event => {
  if (!event.target.matches("[data-archive]")) return;
  if (event.target.checked) choose(event.target.value);
  else leaveOut(event.target.value);
  show();
});
document.getElementById("clear").addEventListener("click", () => {
  [...chosen.keys()].forEach(leaveOut);
  show();
  document.getElementById("search").focus();
});
document.addEventListener("htmx:afterSettle", show);
