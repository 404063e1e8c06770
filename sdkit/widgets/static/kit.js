// What all explorers share: elements, controls and pictures.
//
// Texts from prompts and files enter the page only as text nodes and attribute values, never as markup.
// Nothing here talks to the kernel: controls call back, and each explorer decides what to send.

// Keys pressed in these belong to them and not to the notebook, where "d d" deletes the cell and arrows leave it.
// JupyterLab looks for the mark on the focused element itself: one on the frame around it comes too late.
const KEYED = new Set(["button", "input", "select", "summary", "textarea"]);

/** Make an element. Properties that begin with "on" are listeners, the rest are attributes; strings become text. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled") element[name] = value;
    else if (value !== false && value != null) element.setAttribute(name, value === true ? "" : value);
  }
  if (KEYED.has(tag) || properties.tabindex != null) element.setAttribute("data-lm-suppress-shortcuts", "true");
  element.append(...children.filter((child) => child != null));
  return element;
}

/** The frame of an explorer. */
export function panel(name, ...children) {
  return h("section", { class: "sdkit", "aria-label": name, "data-jp-suppress-context-menu": "true" }, ...children);
}

/** A button whose name, for who hears it or speaks to it, holds the words written on it; signs alone are named by the title. */
export function button(text, onclick, { title = null, kind = "", pressed = null } = {}) {
  const words = text.replace(/[^\p{L}\p{N} ]/gu, "").trim();
  const name = title && !title.toLowerCase().includes(words.toLowerCase()) ? `${words}: ${title}` : title;
  const made = h("button", { type: "button", class: `sd-button ${kind}`, title, "aria-label": name, onclick }, text);
  if (pressed !== null) made.setAttribute("aria-pressed", pressed);
  return made;
}

/** A slider with its name and value. It calls `oninput(value, moving)`; a drag ends with one call that is not moving. `set` moves it without calling back, and not while a finger is on it. */
export function slider({ label, min, max, step = 1, value = min, format = String }, oninput) {
  let held = false;
  const input = h("input", { type: "range", min, max, step });
  const output = h("output");
  const write = () => { output.textContent = format(Number(input.value)); };
  input.value = value;
  write();
  input.addEventListener("pointerdown", () => { held = true; });
  input.addEventListener("pointerup", () => { held = false; });
  input.addEventListener("pointercancel", () => { held = false; });
  input.addEventListener("input", () => { write(); oninput(Number(input.value), true); });
  input.addEventListener("change", () => oninput(Number(input.value), false));
  const root = h("label", { class: "sd-field sd-slider" }, h("span", {}, label), input, output);
  return {
    root,
    input,
    get: () => Number(input.value),
    set(to) {
      if (held) return;
      if (to > Number(input.max)) input.max = to;
      input.value = to;
      write();
    },
    range(most) { input.max = most; write(); },
  };
}

export function choice(label, options, onchange) {
  const select = h("select", { onchange: () => onchange(select.value) });
  for (const [value, text] of options) select.append(h("option", { value }, text));
  return { root: h("label", { class: "sd-field" }, h("span", {}, label), select), select };
}

/** Call `f` with the newest arguments: at most once in `wait` milliseconds while something moves, and at once when it rests. */
export function throttled(f, wait = 66) {
  let timer = null;
  let newest = null;
  const pass = () => {
    const values = newest;
    newest = null;
    timer = values && setTimeout(pass, wait);
    if (values) f(...values);
  };
  return (moving, ...values) => {
    newest = [moving, ...values];
    if (moving && timer !== null) return;
    clearTimeout(timer);
    pass();
  };
}

/** Call `f` when nothing was asked for `wait` milliseconds. */
export function settled(f, wait) {
  let timer = null;
  return (...values) => { clearTimeout(timer); timer = setTimeout(() => f(...values), wait); };
}

/** Show bytes in an <img>; the last picture's memory is given back. */
export function show(img, bytes) {
  const before = img.src;
  const size = bytes?.byteLength ?? 0;
  if (size) img.src = URL.createObjectURL(new Blob([bytes]));
  else img.removeAttribute("src");
  if (before.startsWith("blob:")) URL.revokeObjectURL(before);
  img.hidden = !size;
}

/** A picture with a second one under a wipe: left of the line the pinned one, right of it the present one. */
export function stage() {
  const now = h("img", { class: "sd-now", alt: "", draggable: "false" });
  const before = h("img", { class: "sd-before", alt: "", draggable: "false" });
  const wipe = h("input", { type: "range", class: "sd-wipe", min: 0, max: 100, "aria-label": "wipe between the pinned and the present picture" });
  const frame = h("div", { class: "sd-frame" }, now, before, h("div", { class: "sd-line" }), wipe);
  const place = () => frame.style.setProperty("--sd-cut", `${wipe.value}%`);
  wipe.addEventListener("input", place);
  wipe.value = 50;
  place();
  now.hidden = before.hidden = true;
  return {
    root: frame,
    now(bytes, alt) { show(now, bytes); if (alt != null) now.alt = alt; },
    preview(on) { frame.classList.toggle("sd-preview", on); },
    pin(bytes, alt) { show(before, bytes); before.alt = alt ?? ""; frame.classList.toggle("sd-compare", Boolean(bytes?.byteLength)); },
  };
}

/** Listen to the model until the view is removed, and once now. */
export function follow(model, names, f, signal) {
  const events = names.split(" ").map((name) => `change:${name}`).join(" ");
  for (const event of events.split(" ")) model.on(event, f);
  signal.addEventListener("abort", () => { for (const event of events.split(" ")) model.off(event, f); });
  f();
}

/** Put text on the clipboard, also where the page may not use the new interface. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = h("textarea", { value: text, style: "position:fixed;opacity:0" });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

/** A name for one view of one panel. (crypto.randomUUID is missing where a page comes over plain http.) */
export function viewName() {
  return Math.random().toString(36).slice(2);
}

/** The line that tells the reader something: what went wrong, or else a note. */
export function sentence(model, signal) {
  const line = h("p", { class: "sd-message", role: "status" });
  follow(model, "message note", () => {
    line.textContent = model.get("message") || model.get("note");
    line.classList.toggle("sd-note", !model.get("message"));
  }, signal);
  return line;
}

/** Draw small pixels large and soft; a canvas stretched by the page shows its grid. */
export function enlarge(canvas, pixels, width = 256) {
  const small = h("canvas", { width: pixels.width, height: pixels.height });
  small.getContext("2d").putImageData(pixels, 0, 0);
  Object.assign(canvas, { width, height: Math.round((width * pixels.height) / pixels.width) });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
}

// black, violet, orange, pale yellow: evenly rising lightness, so that it reads in grey too
const GLOW = [[0, 0, 4], [66, 10, 104], [147, 38, 103], [221, 81, 58], [252, 165, 10], [252, 255, 164]];

/** The colour of attention: red, green and blue of a value in 0..1. */
export function glow(value) {
  const place = Math.min(value, 1) * (GLOW.length - 1);
  const low = Math.min(Math.floor(place), GLOW.length - 2);
  return [0, 1, 2].map((c) => GLOW[low][c] + (place - low) * (GLOW[low + 1][c] - GLOW[low][c]));
}
