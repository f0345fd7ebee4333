"""When a page that htmx has changed can be used: it gives new buttons their work a moment after it has shown them."""

SETTLED = "document.querySelector('.htmx-request, .htmx-settling, .htmx-added') === null"
