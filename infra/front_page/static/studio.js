"use strict";
// A dialog opens when htmx has filled it, and closes by its own buttons or Escape.
const dialog = document.getElementById("dialog");

document.addEventListener("htmx:afterSettle", event => {
  if (event.detail.target === dialog && !dialog.open) dialog.showModal();
});
document.addEventListener("click", event => {
  if (event.target.closest("[data-close]")) dialog.close();
});
// The server of this page is away: nothing else could say so.
document.addEventListener("htmx:sendError", event => {
  const note = document.createElement("p"), close = document.createElement("button");
  note.className = "panel outage";
  note.setAttribute("role", "alert");
  note.textContent = "The studio does not answer: see `studio status`, then reload this page.";
  close.textContent = "Close";
  close.dataset.close = "";
  if (event.detail.target !== dialog) return event.detail.target?.replaceChildren(note);
  dialog.replaceChildren(note, close);
  if (!dialog.open) dialog.showModal();
});
