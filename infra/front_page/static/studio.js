"use strict";
// Dialogs open when htmx has filled them, and close by their own buttons, Escape, or once a run has started.
const dialog = document.getElementById("dialog");

document.addEventListener("htmx:afterSettle", event => {
  if (event.detail.target === dialog && !dialog.open) dialog.showModal();
});
document.addEventListener("click", event => {
  if (event.target.closest("[data-close]")) dialog.close();
});
document.addEventListener("studio:started", () => {
  for (const button of dialog.querySelectorAll("footer .main")) button.remove();
  for (const button of dialog.querySelectorAll("footer [data-close]")) button.textContent = "Close";
});
// A service that is away is asked again by the panel itself; a page that is away says so.
document.addEventListener("htmx:sendError", event => {
  const note = document.createElement("p");
  note.className = "panel outage";
  note.setAttribute("role", "alert");
  note.textContent = "The studio does not answer: see `make status`, then reload this page.";
  event.detail.target?.replaceChildren(note);
});
