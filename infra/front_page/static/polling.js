"use strict";
// What changes by itself, an element with `data-live`, is asked for again and again while somebody looks at the page:
// every two seconds, or every ten.
const say = name => {
  if (!document.hidden) document.body.dispatchEvent(new Event(name));
};
setInterval(say, 2000, "studio:tick");
setInterval(say, 10000, "studio:slow-tick");
document.addEventListener("visibilitychange", () => {
  say("studio:tick");
  say("studio:slow-tick");
});

// A list that is asked for again comes as long as it is, so that nobody who has scrolled loses the place.
const MOST_ROWS = 500; // that the server gives at once
document.addEventListener("htmx:configRequest", event => {
  const { elt, target, parameters } = event.detail;
  if (elt !== target || !elt.matches("[data-live]")) return;
  const rows = elt.querySelectorAll("tbody [scope=row], .version").length;
  if (rows > MOST_ROWS) event.preventDefault();
  else if (rows) parameters.rows = rows;
});

// An answer that says what is there already is not shown again: the focus stays, and nothing is read out twice.
document.addEventListener("htmx:beforeSwap", event => {
  const { target, serverResponse } = event.detail;
  if (!target.matches("[data-live]")) return;
  event.detail.shouldSwap = target.shown !== serverResponse;
  target.shown = serverResponse;
});
document.addEventListener("htmx:sendError", event => delete event.detail.target.shown);
