"use strict";

// Requests of this page at once; the server answers them in turn.
const PARALLEL = 2;
// Pixels of the longest side of a mask that is drawn: more than a screen shows.
const MASK_SIDE = 2048;
// Pixels of the longest side below which a photo is enlarged.
const SMALL_SIDE = 240;

const $ = (selector, root = document) => root.querySelector(selector);
const percent = (share) => (share > 0 && share < 0.0005 ? "<0.1%" : `${(100 * share).toFixed(1)}%`);
const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

const state = { models: [], cards: [], made: 0, token: "", running: 0, waiting: [] };

// --- the server -------------------------------------------------------------------------------------------------------

class Problem extends Error {}

async function ask(path, options = {}) {
  const headers = { ...options.headers, ...(state.token && { Authorization: `Bearer ${state.token}` }) };
  for (;;) {
    const response = await fetch(path, { ...options, headers });
    if (response.status === 429) {
      await pause(Number(response.headers.get("Retry-After")) || 1);
      continue;
    }
    const answer = await response.json().catch(() => ({}));
    if (response.status === 401) showLogin();
    if (!response.ok) throw new Problem(typeof answer.detail === "string" ? answer.detail : response.statusText);
    return answer;
  }
}

function predict(file, extra = {}) {
  const query = new URLSearchParams({ model: $("#model").value, precision: $("#precision").value, ...extra });
  const form = new FormData();
  form.append("photo", file, file.name);
  return ask(`v1/predict?${query}`, { method: "POST", body: form });
}

async function loadModels() {
  const answer = await ask("v1/models");
  state.models = answer.models.filter((model) => model.task !== "features");
  if (!state.models.length) throw new Problem("The models of this server make features only. Ask its API for them.");
  fill($("#model"), state.models.map((model) => model.name));
  fillPrecisions();
}

const chosenModel = () => state.models.find((model) => model.name === $("#model").value);
const fillPrecisions = () => fill($("#precision"), chosenModel().precisions);
const fill = (select, values) => select.replaceChildren(...values.map((value) => new Option(value, value)));

function showLogin() {
  $("#login").hidden = false;
  $("#refused").hidden = !state.token;
  $("#token").focus();
}

// --- photos come in ---------------------------------------------------------------------------------------------------

function addFiles(files) {
  const photos = [...files].filter((file) => file.type.startsWith("image/"));
  notify(files.length && !photos.length ? "There was no photo among the files." : "");
  const cards = photos.map((file) => new Card(file));
  state.cards.push(...cards);
  $("#results").prepend(...cards.map((card) => card.element));
  cards.forEach(enqueue);
}

function enqueue(card) {
  card.begin();
  if (!state.waiting.includes(card)) state.waiting.push(card);
  work();
}

async function work() {
  while (state.running < PARALLEL && state.waiting.length) {
    const card = state.waiting.shift();
    state.running += 1;
    card.analyze().finally(() => { state.running -= 1; work(); });
  }
}

const again = () => state.cards.forEach(enqueue);
// What only screen readers tell, and what everybody must see.
const say = (text) => { $("#status").textContent = text; };
const notify = (text) => { $("#notice").textContent = text; };
const explain = (error) => (error instanceof Problem ? error.message : "The server cannot be reached.");

// --- one photo --------------------------------------------------------------------------------------------------------

class Card {
  constructor(file) {
    this.file = file;
    this.version = 0;
    this.element = $("#card").content.firstElementChild.cloneNode(true);
    const heading = this.part("h2");
    heading.textContent = file.name;
    heading.id = `photo-${++state.made}`;
    this.element.setAttribute("aria-labelledby", heading.id);
    this.element.querySelectorAll("button, summary, input").forEach((one) => one.setAttribute("aria-describedby", heading.id));
    const photo = this.part(".photo");
    photo.src = URL.createObjectURL(file);
    photo.alt = file.name;
    photo.addEventListener("error", () => { photo.hidden = true; });
    photo.addEventListener("load", () => enlarge(photo));
    this.part(".remove").addEventListener("click", () => this.remove());
    this.part(".copy").addEventListener("click", () => this.copy());
    this.part(".opacity input").addEventListener("input", () => this.showOpacity());
    this.part(".layers").addEventListener("toggle", () => this.showLayers());
  }

  part(selector) { return $(selector, this.element); }

  // From here on answers to earlier questions do not count.
  begin() {
    this.version += 1;
    this.element.classList.add("busy");
    this.element.setAttribute("aria-busy", "true");
    this.part(".took").textContent = "Working …";
  }

  end() {
    this.element.classList.remove("busy");
    this.element.removeAttribute("aria-busy");
  }

  async analyze() {
    const { version } = this;
    const start = performance.now();
    try {
      const answer = await predict(this.file, { mask: true });
      if (version === this.version) this.show(answer, performance.now() - start);
    } catch (error) {
      if (version === this.version) this.fail(error);
    }
    if (version === this.version) this.end();
  }

  show(answer, milliseconds) {
    const [result] = answer.results;
    const { mask, ...rest } = result;
    this.answer = { ...answer, results: [rest] };
    this.colors = state.models.find((model) => model.name === answer.model).colors;
    this.part(".message").textContent = "";
    this.part(".more").hidden = this.part(".copy").hidden = false;
    this.part("pre").textContent = JSON.stringify(this.answer, null, 2);
    this.part(".took").textContent = `${answer.model}, ${answer.precision}, answered in ${milliseconds.toFixed(0)} ms`;
    const rows = rowsOf(result, this.colors);
    this.part(".labels").replaceChildren(...rows.map(row));
    this.part(".nothing").hidden = rows.length > 0;
    this.drawMask(mask, result.legend);
    this.drawBoxes(result);
    this.part(".opacity").hidden = !mask && !result.detections?.length;
    this.showOpacity();
    this.forgetLayers();
    say(`${this.file.name}: ${rows.slice(0, 3).map(({ label, share }) => `${label} ${percent(share)}`).join(", ") || "nothing found"}`);
  }

  fail(error) {
    this.answer = undefined;
    this.part(".labels").replaceChildren();
    this.part(".took").textContent = "";
    [".more", ".copy", ".nothing", ".opacity"].forEach((part) => { this.part(part).hidden = true; });
    this.drawMask();
    this.drawBoxes({});
    this.part(".message").textContent = explain(error);
  }

  drawMask(mask, legend = []) {
    const canvas = this.part(".mask");
    canvas.hidden = !mask;
    if (!mask) return;
    const picture = new Image();
    picture.addEventListener("load", () => paint(canvas, picture, colorsOfMask(legend, this.colors)));
    picture.src = `data:image/png;base64,${mask}`;
  }

  drawBoxes(result) {
    const svg = this.part(".boxes");
    const found = result.detections ?? [];
    const { naturalWidth, naturalHeight } = this.part(".photo");
    svg.toggleAttribute("hidden", !found.length || !naturalWidth);
    svg.setAttribute("viewBox", `0 0 ${naturalWidth} ${naturalHeight}`);
    svg.replaceChildren(...found.map((one) => boxOf(one, this.colors)));
    const names = naturalWidth ? found.map((one) => nameOf(one, naturalWidth, naturalHeight)) : [];
    this.part(".names").replaceChildren(...names);
  }

  showOpacity() {
    const { value } = this.part(".opacity input");
    this.part("output").textContent = `${value}%`;
    this.part(".mask").style.opacity = value / 100;
    this.part(".boxes").style.setProperty("--opacity", value / 100);
  }

  forgetLayers() {
    this.part(".layers .scroll").replaceChildren();
    if (this.part(".layers").open) this.showLayers();
  }

  async showLayers() {
    const place = this.part(".layers .scroll");
    if (!this.part(".layers").open || place.childNodes.length || !this.answer) return;
    place.textContent = "Measuring …";
    const { version } = this;
    let shown;
    try {
      const answer = await predict(this.file, { profile: true });
      shown = layerTable(answer.results[0].profile);
    } catch (error) {
      shown = explain(error);
    }
    if (version === this.version) place.replaceChildren(shown);
  }

  async copy() {
    const text = JSON.stringify(this.answer, null, 2);
    const button = this.part(".copy");
    try {
      await navigator.clipboard.writeText(text);
      say("JSON copied.");
      button.textContent = "Copied";
      await pause(2);
      button.textContent = "Copy JSON";
    } catch {
      // Without HTTPS a browser gives no clipboard: show what to copy.
      this.part(".json").open = true;
      getSelection().selectAllChildren(this.part("pre"));
    }
  }

  remove() {
    this.version += 1;
    state.cards = state.cards.filter((card) => card !== this);
    state.waiting = state.waiting.filter((card) => card !== this);
    URL.revokeObjectURL(this.part(".photo").src);
    const next = this.element.nextElementSibling;
    this.element.remove();
    (next ? $("h2", next) : $("#files")).focus();
  }
}

// --- results ----------------------------------------------------------------------------------------------------------

// What a list shows of a result of any task: label, share of 0…1 and, where something is drawn, its color.
function rowsOf(result, colors) {
  if (result.candidates) return result.candidates.map(({ label, score }) => ({ label, share: score }));
  if (result.legend) {
    return result.legend.map(({ index, label, share }) => ({ label, share, color: isGround(label) ? "transparent" : colors[index] }));
  }
  return result.detections.map(({ id, label, score }) => ({ label, share: score, color: colors[id] }));
}

const isGround = (label) => label === "background";

function row({ label, share, color }) {
  const item = document.createElement("li");
  const bar = element("span", "bar", "");
  bar.setAttribute("aria-hidden", "true");
  bar.append(element("span", "", ""));
  bar.firstChild.style.width = `${100 * share}%`;
  const swatch = element("span", "swatch", "");
  swatch.hidden = !color;
  swatch.style.background = color ?? "";
  item.append(swatch, element("span", "label", label), element("span", "share", percent(share)), bar);
  if (!color) item.style.gridTemplateColumns = "1fr auto";
  return item;
}

function element(name, kind, text) {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  made.textContent = text;
  return made;
}

// A mask's pixels have the colors of its data set; on a photo brighter ones are easier to tell apart.
function colorsOfMask(legend, colors) {
  return new Map(legend.map(({ index, label, color }) => [
    Number.parseInt(color.slice(1), 16),
    isGround(label) ? undefined : Number.parseInt(colors[index].slice(1), 16),
  ]));
}

function paint(canvas, mask, colors) {
  const scale = Math.min(1, MASK_SIDE / Math.max(mask.naturalWidth, mask.naturalHeight));
  canvas.width = Math.max(1, Math.round(scale * mask.naturalWidth));
  canvas.height = Math.max(1, Math.round(scale * mask.naturalHeight));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  context.drawImage(mask, 0, 0, canvas.width, canvas.height);
  const image = context.getImageData(0, 0, canvas.width, canvas.height);
  const { data } = image;
  for (let at = 0; at < data.length; at += 4) {
    const color = colors.get((data[at] << 16) | (data[at + 1] << 8) | data[at + 2]);
    data[at + 3] = color === undefined ? 0 : 255;
    if (color === undefined) continue;
    data[at] = color >> 16;
    data[at + 1] = (color >> 8) & 255;
    data[at + 2] = color & 255;
  }
  context.putImageData(image, 0, 0);
}

function boxOf({ id, box: [left, top, right, bottom] }, colors) {
  const rectangle = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  const values = { x: left, y: top, width: right - left, height: bottom - top, stroke: colors[id] };
  Object.entries(values).forEach(([key, value]) => rectangle.setAttribute(key, value));
  return rectangle;
}

// What stands in the corner of a box: as large as the page's text, whatever the photo's size.
function nameOf({ label, score, box: [left, top] }, width, height) {
  const name = element("span", "", `${label} ${percent(score)}`);
  name.style.setProperty("--left", `${(100 * left) / width}%`);
  name.style.setProperty("--top", `${(100 * top) / height}%`);
  return name;
}

function enlarge(photo) {
  const scale = SMALL_SIDE / Math.max(photo.naturalWidth, photo.naturalHeight);
  if (scale > 1) photo.style.width = `${scale * photo.naturalWidth}px`;
}

function layerTable(layers) {
  const total = layers.reduce((sum, { seconds }) => sum + seconds, 0);
  const table = document.createElement("table");
  table.createCaption().textContent = `${(1000 * total).toFixed(1)} ms in ${layers.length} layers`;
  const head = table.createTHead().insertRow();
  ["layer", "ms", "share", "GFLOP/s"].forEach((text) => {
    const cell = element("th", "", text);
    cell.scope = "col";
    head.append(cell);
  });
  const body = table.createTBody();
  layers.forEach(({ name, seconds, multiply_adds: count }) => {
    const line = body.insertRow();
    const cell = element("th", "", name);
    cell.scope = "row";
    line.append(cell);
    [(1000 * seconds).toFixed(2), percent(seconds / total), (2e-9 * count / seconds || 0).toFixed(1)].forEach((text) => {
      line.insertCell().textContent = text;
    });
  });
  return table;
}

// --- the camera -------------------------------------------------------------------------------------------------------

async function openCamera() {
  const phone = matchMedia("(pointer: coarse)").matches;
  if (phone || !navigator.mediaDevices?.getUserMedia) {
    $("#capture").click();
    return;
  }
  try {
    $("#viewfinder video").srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 } } });
    $("#viewfinder").showModal();
  } catch {
    notify("No camera can be used.");
  }
}

function shoot() {
  const video = $("#viewfinder video");
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  const name = `camera ${new Date().toLocaleTimeString()}.jpg`;
  canvas.toBlob((blob) => {
    addFiles([new File([blob], name, { type: "image/jpeg" })]);
    $("#viewfinder").close();
  }, "image/jpeg", 0.95);
}

function closeCamera() {
  const video = $("#viewfinder video");
  video.srcObject?.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
}

async function tryExample() {
  const photo = await (await fetch("cat.jpg")).blob();
  addFiles([new File([photo], "cat.jpg", { type: "image/jpeg" })]);
}

// --- wiring -----------------------------------------------------------------------------------------------------------

function addFrom(input) {
  addFiles(input.files);
  input.value = "";
}

document.addEventListener("dragover", (event) => { event.preventDefault(); $("#drop").classList.add("over"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("#drop").classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("#drop").classList.remove("over");
  addFiles(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => addFiles(event.clipboardData.files));
$("#files").addEventListener("change", (event) => addFrom(event.target));
$("#capture").addEventListener("change", (event) => addFrom(event.target));
$("#camera").addEventListener("click", openCamera);
$("#example").addEventListener("click", tryExample);
$("#shoot").addEventListener("click", shoot);
$("#viewfinder").addEventListener("close", closeCamera);
$("#settings").addEventListener("submit", (event) => event.preventDefault());
$("#model").addEventListener("change", () => { fillPrecisions(); again(); });
$("#precision").addEventListener("change", again);
$("#login").addEventListener("submit", (event) => {
  event.preventDefault();
  state.token = $("#token").value;
  $("#login").hidden = true;
  start();
});

function start() {
  notify("");
  loadModels().then(again).catch((error) => { if ($("#login").hidden) notify(explain(error)); });
}

start();
