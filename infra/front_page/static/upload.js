// Uploads of archives, in parts, from this browser straight to the object store.
//
// The store alone knows which parts it has. This browser keeps, by name, the id of an upload, and the size and date of
// its file: after a reload a person has to choose the file again, because a browser gives none back.

const FILES_AT_ONCE = 2;
const PARTS_AT_ONCE = 3; // of each file: a browser opens six connections to one address
const PAUSES_S = [1, 2, 4, 8, 15, 30, 30, 30, 30, 30]; // between attempts, while a service is away
const SILENCE_S = 60; // after which a connection is given up
const RATE_S = 10; // over which the rate is measured
const PREFIX = "studio.upload."; // of what is kept in this browser, and of the locks between its tabs
const TOKEN = document.querySelector("meta[name=studio-token]").content;

// What a person may do in each state.
const BUTTONS = {
  waiting: ["pause", "abort"],
  sending: ["pause", "abort"],
  completing: [],
  paused: ["resume", "abort"],
  cut: ["abort"], // the file has to be chosen again
  taken: ["replace", "abort"], // the name is
  refused: ["close"],
  done: ["close"],
};

const MESSAGES = {
  waiting: "Waits for its turn.",
  sending: "",
  paused: "Paused.",
  cut: "It was cut off. Choose the same file again, and it goes on.",
};

// A refusal, or a service that is away: the same may then succeed a little later.
class UploadError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
    this.isAway = status === 0 || status >= 500;
  }
}

class FileChangedError extends Error {}

// ---- what the server of this page, the store and the file are asked -------------------------------------------------

async function ask(method, path, values, signal) {
  let answer;
  try {
    const headers = { "X-Studio-Token": TOKEN };
    answer = await fetch(`${path}?${new URLSearchParams(values)}`, { method, headers, signal });
  } catch {
    signal?.throwIfAborted();
    throw new UploadError("The studio does not answer: see `studio status`.");
  }
  const isJson = answer.headers.get("content-type")?.startsWith("application/json");
  const body = isJson ? await answer.json() : {};
  if (!answer.ok) throw new UploadError(body.error ?? `The studio answers ${answer.status}.`, answer.status);
  return body;
}

// XMLHttpRequest, because fetch does not tell how much has gone.
function put(address, blob, signal, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    let silence;
    const listen = () => {
      clearTimeout(silence);
      silence = setTimeout(stop, SILENCE_S * 1000);
    };
    request.upload.onprogress = event => {
      listen();
      onProgress(event.loaded);
    };
    request.onloadend = () => {
      clearTimeout(silence);
      signal.removeEventListener("abort", stop);
      const store = new URL(address).origin;
      if (signal.aborted) reject(signal.reason);
      else if (request.status === 0) // a browser does not say which of the two
        reject(new UploadError(`The object store at ${store} does not answer, or takes nothing from pages of ${location.origin}.`));
      else if (request.status !== 200)
        reject(new UploadError(`The object store at ${store} answers ${request.status} to a part.`, request.status));
      else resolve();
    };
    signal.addEventListener("abort", stop);
    request.open("PUT", address);
    listen();
    request.send(blob);
  });
}

function sleep(seconds, signal) {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

async function requireUnchanged(file) {
  try {
    await file.slice(0, 1).arrayBuffer(); // a browser refuses to read a file that has changed since it was chosen
  } catch {
    throw new FileChangedError();
  }
}

// ---- one upload -----------------------------------------------------------------------------------------------------

class Upload {
  constructor(name, file, saved) {
    this.name = name;
    this.file = file; // null after a reload
    this.size = file?.size ?? saved.size;
    this.modified = file?.lastModified ?? saved.modified;
    this.saved = saved; // {size, modified, upload, writer, partBytes, replace}; null until the upload has an id
    this.mayReplace = saved?.replace ?? false;
    this.isComplete = false;
    this.isRunning = false;
    this.parts = new Map(); // bytes of each part that the store has, by number
    this.onTheWay = new Map(); // bytes that have gone of each part that is being sent
    this.samples = []; // [seconds, bytes], of the last RATE_S
    this.note = ""; // stays until the end, before whatever is said
    this.control = new AbortController();
    this.row = document.getElementById("upload-row").content.firstElementChild.cloneNode(true);
    this.show("name", name);
    this.row.querySelector("progress").setAttribute("aria-label", `Upload of ${name}`);
    for (const button of this.row.querySelectorAll("button"))
      button.addEventListener("click", () => this[button.dataset.do]());
    document.getElementById("upload-queue").append(this.row);
    this.set(file ? "waiting" : "cut");
  }

  get known() {
    return { name: this.name, upload: this.saved.upload, writer: this.saved.writer };
  }

  isOf(file) {
    return this.size === file.size && this.modified === file.lastModified;
  }

  // -- what a person does

  pause() {
    this.set("paused");
    this.control.abort();
  }

  resume() {
    this.set("waiting");
    startNext();
  }

  replace() {
    this.mayReplace = true;
    if (this.saved) this.save({ ...this.saved, replace: true });
    this.resume();
  }

  async abort() {
    this.set("completing", "Removing its parts.");
    try {
      await this.drop();
      this.close();
    } catch (error) {
      this.set(this.file ? "paused" : "cut", `Not aborted: ${error.message}`);
    }
    tellChange();
  }

  close() {
    this.row.remove();
    if (uploads.get(this.name) === this) uploads.delete(this.name);
    startNext();
  }

  // The file is another one than that whose parts the store has.
  async startAnew(file) {
    [this.file, this.size, this.modified] = [file, file.size, file.lastModified];
    this.note = "The file has changed since its upload began, so it starts anew.";
    this.set("completing", "Removing the former parts.");
    try {
      await this.drop();
      this.resume();
    } catch (error) {
      this.set("paused", error.message);
    }
  }

  // -- what follows

  async run() {
    this.set("sending");
    this.isRunning = true;
    this.control = new AbortController();
    try {
      const lock = { ifAvailable: true };
      await navigator.locks.request(PREFIX + this.name, lock, async free => {
        if (!free) throw new UploadError("Another tab of this browser uploads a file of this name.", 400);
        await this.prepare();
        await this.send();
        await this.complete();
      });
    } catch (error) {
      this.fail(error);
    }
    this.isRunning = false;
    startNext();
  }

  // Find out what the store has, or start.
  async prepare() {
    if (this.saved) await this.patiently(() => this.readParts());
    if (this.saved) return;
    const asked = { name: this.name, size: this.size, replace: this.mayReplace };
    const { upload, writer, part_bytes: partBytes } = await this.patiently(() => this.ask("POST", "/uploads", asked));
    this.save({ size: this.size, modified: this.modified, upload, writer, partBytes, replace: this.mayReplace });
  }

  async readParts() {
    try {
      const { complete, parts } = await this.ask("GET", "/uploads/parts", this.known);
      this.isComplete = complete;
      this.parts = new Map(Object.entries(parts).map(([number, bytes]) => [Number(number), bytes]));
    } catch (error) {
      if (error.status !== 410) throw error;
      this.note = "Its parts were removed from the store, so it starts anew.";
      this.forget();
    }
  }

  missing() {
    if (this.isComplete) return [];
    const { partBytes } = this.saved;
    const numbers = Array.from({ length: Math.ceil(this.size / partBytes) }, (_, index) => index + 1);
    return numbers.filter(number => this.parts.get(number) !== Math.min(partBytes, this.size - (number - 1) * partBytes));
  }

  async send() {
    const { control } = this;
    const missing = this.missing();
    let failure = null;
    const sendOnePartAfterAnother = async () => {
      try {
        while (missing.length) {
          const number = missing.shift();
          await this.patiently(() => this.sendPart(number));
        }
      } catch (error) {
        failure ??= error;
        control.abort(); // the others stop, too
      }
    };
    // All have ended before the upload may be resumed: none goes on beside the next ones.
    await Promise.all(Array.from({ length: PARTS_AT_ONCE }, sendOnePartAfterAnother));
    if (failure) throw failure;
  }

  async sendPart(number) {
    const start = (number - 1) * this.saved.partBytes;
    const blob = this.file.slice(start, start + this.saved.partBytes);
    const { address } = await this.ask("POST", "/uploads/parts", { ...this.known, number });
    try {
      await put(address, blob, this.control.signal, gone => this.onTheWay.set(number, gone));
      this.parts.set(number, blob.size);
    } catch (error) {
      if (error.isAway) await requireUnchanged(this.file);
      throw error;
    } finally {
      this.onTheWay.delete(number);
    }
  }

  async complete() {
    this.set("completing", "Puts its parts together.");
    const asked = { ...this.known, size: this.size, replace: this.mayReplace };
    const { message, check } = await this.patiently(() => this.ask("POST", "/uploads/complete", asked));
    this.forget();
    this.set("done", `Uploaded. ${message}`);
    const link = this.row.querySelector("[data-show=check]");
    link.hidden = !check;
    link.href = check;
    document.body.dispatchEvent(new CustomEvent("studio:uploaded", { detail: { name: this.name } }));
    tellChange();
  }

  fail(error) {
    if (error.name === "AbortError") return; // a person did, and has been told
    if (error instanceof FileChangedError) {
      this.modified = null; // so that it is another file, whatever its date
      this.set("cut", "The file has changed on this disk. Choose it again.");
    } else if (error.status === 409) this.set("taken", error.message);
    else if (this.saved || error.isAway) this.set("paused", `${error.message} Resume tries it again.`);
    else this.set("refused", error.message);
  }

  // Call until it succeeds, is refused, or a service has been away for minutes.
  async patiently(call) {
    for (const seconds of PAUSES_S) {
      try {
        const answer = await call();
        this.say("");
        return answer;
      } catch (error) {
        if (!error.isAway) throw error;
        this.say(`${error.message} Tries again in ${seconds} s.`);
        await sleep(seconds, this.control.signal);
      }
    }
    return call();
  }

  ask(method, path, values) {
    return ask(method, path, values, this.control.signal);
  }

  // Stop, and remove the parts from the store.
  async drop() {
    this.control.abort();
    await this.running;
    if (this.saved) await ask("DELETE", "/uploads", this.known);
    this.forget();
  }

  save(saved) {
    this.saved = saved;
    localStorage.setItem(PREFIX + this.name, JSON.stringify(saved));
  }

  forget() {
    localStorage.removeItem(PREFIX + this.name);
    this.saved = null;
    this.isComplete = false;
    this.parts.clear();
  }

  // After a reload: what the store has of it. If that is all, nobody is needed to end it.
  async look() {
    try {
      await this.readParts();
      this.set("cut");
      if (this.saved && !this.missing().length) this.resume();
    } catch (error) {
      this.say(error.message);
    }
  }

  // -- what is shown

  set(state, message = MESSAGES[state]) {
    this.state = state;
    this.row.dataset.state = state;
    for (const button of this.row.querySelectorAll("button")) button.hidden = !BUTTONS[state].includes(button.dataset.do);
    this.samples = [];
    this.say(message);
    this.showProgress();
  }

  say(message) {
    this.show("message", `${this.note} ${message}`.trim());
  }

  show(what, text) {
    const place = this.row.querySelector(`[data-show=${what}]`);
    if (place.textContent !== text) place.textContent = text;
  }

  showProgress() {
    const gone = this.state === "done" ? this.size : sum(this.parts.values()) + sum(this.onTheWay.values());
    const progress = this.row.querySelector("progress");
    progress.max = this.size || 1;
    progress.value = gone;
    const now = performance.now() / 1000;
    this.samples = this.samples.filter(([then]) => now - then < RATE_S);
    this.samples.push([now, gone]);
    const [then, before] = this.samples[0];
    const rate = now > then ? (gone - before) / (now - then) : 0;
    const figures = [`${inBytes(gone)} of ${inBytes(this.size)}`];
    if (this.state === "sending" && rate > 0)
      figures.push(`${inBytes(rate)}/s`, `${inTime((this.size - gone) / rate)} left`);
    this.show("figures", figures.join(" · "));
  }
}

function sum(numbers) {
  return [...numbers].reduce((total, number) => total + number, 0);
}

function inBytes(bytes) {
  let unit = 0;
  for (; bytes >= 1000 && unit < 4; unit += 1) bytes /= 1000;
  return `${bytes.toFixed(unit ? 1 : 0)} ${["bytes", "kB", "MB", "GB", "TB"][unit]}`;
}

function inTime(seconds) {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

// ---- all uploads of this page ---------------------------------------------------------------------------------------

const uploads = new Map(); // by name

function add(files) {
  for (const file of files) {
    const known = uploads.get(file.name);
    if (!known || BUTTONS[known.state].includes("close")) {
      known?.row.remove();
      uploads.set(file.name, new Upload(file.name, file, null));
    } else if (!known.isOf(file)) {
      if (["waiting", "sending", "completing"].includes(known.state))
        new Upload(file.name, file, null).set("refused", "Another file of this name is being uploaded. Abort that one first, or rename this one.");
      else known.startAnew(file);
    } else {
      known.file = file;
      if (known.state === "cut" || known.state === "paused") known.resume();
    }
  }
  startNext();
}

function startNext() {
  const all = [...uploads.values()];
  let busy = all.filter(upload => upload.isRunning).length;
  for (const upload of all) {
    if (busy < FILES_AT_ONCE && upload.state === "waiting" && !upload.isRunning) {
      upload.running = upload.run();
      busy += 1;
    }
  }
}

// Those that this browser shows above are not shown twice.
function hideOwn() {
  const own = new Set([...uploads.values()].map(upload => upload.saved?.upload));
  const buttons = [...unfinished.querySelectorAll("[data-abort]")];
  for (const button of buttons) button.closest("tr").hidden = own.has(button.dataset.abort);
  unfinished.hidden = buttons.length > 0 && buttons.every(button => button.closest("tr").hidden);
}

function tellChange() {
  document.body.dispatchEvent(new CustomEvent("studio:uploads"));
}

const input = document.getElementById("upload-files");
const unfinished = document.getElementById("unfinished-uploads");
const zone = document.getElementById("drop-zone");

input.addEventListener("change", () => {
  add(input.files);
  input.value = ""; // the same file may be chosen again
});
document.addEventListener("dragover", event => {
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  zone.classList.add("over");
});
document.addEventListener("dragleave", () => zone.classList.remove("over"));
document.addEventListener("drop", event => {
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  zone.classList.remove("over");
  add(event.dataTransfer.files);
});
unfinished.addEventListener("htmx:afterSwap", hideOwn);
unfinished.addEventListener("click", async event => {
  const button = event.target.closest("[data-abort]");
  const { abort: upload, name } = button?.dataset ?? {};
  if (!button || !confirm(`Remove all parts of ${name}? Whoever uploads it has to start anew.`)) return;
  try {
    await ask("DELETE", "/uploads", { name, upload });
    tellChange();
  } catch (error) {
    button.nextElementSibling.textContent = error.message;
  }
});
window.addEventListener("beforeunload", event => {
  if ([...uploads.values()].some(upload => upload.isRunning)) event.preventDefault();
});
setInterval(() => {
  for (const upload of uploads.values()) if (upload.isRunning) upload.showProgress();
}, 500);

const { held } = await navigator.locks.query();
const elsewhere = new Set(held.map(lock => lock.name)); // in another tab
for (const key of Object.keys(localStorage).filter(each => each.startsWith(PREFIX) && !elsewhere.has(each))) {
  const name = key.slice(PREFIX.length);
  const upload = new Upload(name, null, JSON.parse(localStorage.getItem(key)));
  uploads.set(name, upload);
  upload.look();
}
hideOwn();
