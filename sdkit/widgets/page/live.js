// The panel of a page with the model inside: every control changes one value, and the picture follows.
import { button, enlarge, glow, h, panel, settled, slider, throttled } from "./kit.js";
import { Tokenizer, wordsOf } from "./tokenizer.js";

const MANY = 2 ** 31;
const LARGE = 512; // pixels of a canvas across, whatever it shows: what the page stretches itself shows its grid
const SMALL = 112;
const PATIENCE = 700; // milliseconds: a picture that takes less is finished before the next one of a drag
const NETWORKS = ["words", "denoiser", "decoder"];

/** Take a part out of the page: text, and the text's memory is given back. */
function taken(id) {
  const element = document.getElementById(id);
  const text = element.textContent;
  element.remove();
  return text;
}

function bytes(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const characters = atob(text);
  const array = new Uint8Array(characters.length);
  for (let n = 0; n < characters.length; n++) array[n] = characters.charCodeAt(n);
  return array;
}

/** The bytes of a part of the page. */
async function unpacked(id) {
  const stream = new Blob([bytes(taken(id))]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Whether there is a graphics card that pages may compute on; one that a processor plays is slower than the processor. */
async function graphics() {
  try {
    const adapter = await navigator.gpu?.requestAdapter();
    return Boolean(adapter) && !(adapter.info ?? adapter).isFallbackAdapter;
  } catch {
    return false;
  }
}

/** Levels (H, W, 3) as pixels. */
function pixelsOf(levels, rows, columns) {
  const image = new ImageData(columns, rows);
  for (let n = 0; n < rows * columns; n++) {
    image.data.set(levels.subarray(3 * n, 3 * n + 3), 4 * n);
    image.data[4 * n + 3] = 255;
  }
  return image;
}

const paint = (canvas, levels, rows, columns, width = LARGE) => enlarge(canvas, pixelsOf(levels, rows, columns), width);

/** A map with values in 0 to 1 as light. */
function paintGlow(canvas, map, rows, columns, width) {
  const levels = new Uint8ClampedArray(3 * map.length);
  map.forEach((value, n) => levels.set(glow(value), 3 * n));
  paint(canvas, levels, rows, columns, width);
}

function start(root, facts) {
  const { side, patches, first } = facts;
  const tokenizer = new Tokenizer(facts.tokenizer);
  const vocabulary = facts.vocabulary && new Set(facts.vocabulary);
  const values = { ...first };
  let worker = null;
  let asked = null; // the values of the newest request
  let number = 0; // of the newest request
  let busy = false;
  let waiting = false; // another request is to follow the one on the way
  let lasts = Infinity; // milliseconds of the last picture
  let where = "";
  let shown = null; // what is on show: the last picture with its attention
  let chosen = null; // the word whose attention lies over the picture

  // words
  const prompt = h("textarea", { class: "sd-prompt", rows: 2, "aria-label": "prompt", placeholder: "what to show", spellcheck: "false", value: values.prompt });
  const reading = h("p", { class: "sd-words", "aria-label": "the prompt as the model reads it" });
  const without = h("input", { type: "text", "aria-label": "negative prompt: what to keep away from", placeholder: "nothing", value: values.negative_prompt });

  // numbers
  const guidance = slider({ label: "guidance", min: 1, max: Math.max(12, values.guidance_scale), step: 0.1, value: values.guidance_scale, format: (x) => x.toFixed(1) }, (x, moving) => set("guidance_scale", x, moving));
  const steps = slider({ label: "steps", min: 1, max: Math.max(20, 2 * values.steps), value: values.steps }, (x, moving) => set("steps", x, moving));
  const seed = h("input", { type: "number", min: 0, step: 1, "aria-label": "seed", value: values.seed });
  const dice = button("⚄", () => { seed.value = Math.floor(Math.random() * MANY); set("seed", Number(seed.value)); }, { title: "another seed", kind: "sd-quiet" });

  // picture
  const picture = h("canvas", { class: "sd-canvas", role: "img", "aria-label": "no picture yet", width: side, height: side });
  const heat = h("canvas", { class: "sd-heat", "aria-hidden": "true", hidden: true });
  const frame = h("div", { class: "sd-frame" }, picture, heat);
  const bar = h("progress", { max: 1, value: 0, "aria-label": "steps done" });
  const status = h("p", { class: "sd-status", role: "status" }, "opening the model …");
  const message = h("p", { class: "sd-message", role: "status" });
  const looks = h("ul", { class: "sd-look-list", "aria-label": "attention: where the picture looked at each word" });
  const strip = h("ol", { class: "sd-strip sd-steps", "aria-label": "what the model saw at every step" });
  const engine = h("p", { class: "sd-engine", role: "status" });
  const save = button("Save", download, { title: "save the picture as a PNG file" });

  prompt.addEventListener("input", () => setWords("prompt", prompt.value));
  without.addEventListener("input", () => setWords("negative_prompt", without.value));
  seed.addEventListener("input", () => { if (/^\d{1,15}$/.test(seed.value)) set("seed", Number(seed.value)); });
  strip.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const items = [...strip.querySelectorAll("button")];
    items[items.indexOf(document.activeElement) + way]?.focus();
  });

  const askSoon = throttled(() => ask());
  const askLater = settled(() => ask(), 250);
  function set(name, value, moving = false) { values[name] = value; askSoon(moving); }
  function setWords(name, value) { values[name] = value; read(); askLater(); }

  function read() {
    const text = values.prompt.normalize("NFC"); // as it is read
    const words = wordsOf(tokenizer, text, vocabulary);
    const used = tokenizer.pieces(values.prompt).length;
    const limit = tokenizer.length - 2;
    let place = 0;
    const parts = words.flatMap(({ text: word, index, known, cut }) => {
      const kind = cut ? "cut" : "unknown";
      const hint = cut ? "behind the end of what the model reads" : `${facts.name} has never seen it`;
      const space = text.slice(place, index);
      place = index + word.length;
      return [space, h("span", cut || !known ? { class: `sd-word sd-${kind}`, title: hint } : { class: "sd-word" }, word)];
    });
    reading.replaceChildren(...parts, h("span", { class: used > limit ? "sd-count sd-over" : "sd-count" }, `${used} of ${limit} tokens`));
  }

  /** Ask for a picture; one on the way is finished first if it is quick, else the new request outdates it. */
  function ask() {
    waiting = busy && lasts < PATIENCE;
    if (!worker || waiting) return;
    busy = true;
    number += 1;
    worker.postMessage({
      kind: "make",
      number,
      ids: tokenizer.read(values.prompt).ids,
      without: tokenizer.read(values.negative_prompt).ids,
      seed: values.seed,
      steps: values.steps,
      guidance: values.guidance_scale,
    });
    asked = { ...values };
  }

  function ended() {
    busy = false;
    bar.value = 0;
    if (waiting) ask();
  }

  const heard = {
    open({ place }) {
      where = place === "graphics" ? "graphics card (WebGPU)" : "processor (WebAssembly, one thread)";
      engine.textContent = `This page computes by itself, on the ${where}. Nothing is sent anywhere.`;
      ask();
    },
    step({ step, steps: total, preview }) {
      const [, rows, columns] = facts.latents;
      bar.value = step / total;
      status.textContent = `step ${step} of ${total}`;
      frame.classList.add("sd-rough");
      heat.hidden = true;
      paint(picture, preview, rows, columns);
    },
    picture({ number: made, pixels, looked, seconds }) {
      lasts = 1000 * seconds;
      shown = { ...asked, pixels, looked, seconds };
      message.textContent = "";
      frame.classList.remove("sd-rough");
      paint(picture, pixels, side, side);
      picture.setAttribute("aria-label", shown.prompt || "a picture of no words");
      status.textContent = caption();
      engine.textContent = `This page computes by itself, on the ${where}: ${(lasts / shown.steps).toFixed(0)} ms a step. Nothing is sent anywhere.`;
      for (const item of [...strip.children].slice(shown.steps)) item.remove();
      showLooks();
      root.dataset.made = made;
      ended();
    },
    guess({ step, moment, pixels }) {
      const canvas = h("canvas", { "aria-hidden": "true" });
      paint(canvas, pixels, side, side, SMALL);
      const told = `step ${step} of ${shown.steps}, moment ${moment}: the picture that the model has in mind`;
      const open = h("button", { type: "button", class: "sd-thumb", title: told, "aria-label": told, "aria-pressed": "false" }, canvas);
      open.addEventListener("focus", () => glance(open, pixels, told));
      open.addEventListener("pointerenter", () => glance(open, pixels, told));
      open.addEventListener("click", () => glance(open, pixels, told));
      open.addEventListener("blur", back);
      open.addEventListener("pointerleave", () => { if (document.activeElement !== open) back(); });
      const item = h("li", {}, open);
      if (strip.children[step - 1]) strip.children[step - 1].replaceWith(item);
      else strip.append(item);
      root.dataset.steps = step;
    },
    failed({ reason }) {
      ended();
      message.textContent = `That did not work: ${reason}`;
    },
  };

  function glance(thumb, pixels, told) {
    for (const other of strip.querySelectorAll("button")) other.setAttribute("aria-pressed", other === thumb);
    heat.hidden = true;
    frame.classList.remove("sd-dim");
    paint(picture, pixels, side, side);
    status.textContent = told;
  }

  function back() {
    for (const other of strip.querySelectorAll("button")) other.setAttribute("aria-pressed", "false");
    paint(picture, shown.pixels, side, side);
    status.textContent = caption();
    light();
  }

  function caption() {
    return `seed ${shown.seed}, ${shown.steps} steps, guidance ${shown.guidance_scale.toFixed(1)}, ${shown.seconds.toFixed(2)} s`;
  }

  /** Under each word the light that fell on it, all on one scale, so that words can be compared. */
  function showLooks() {
    const length = tokenizer.length;
    const words = wordsOf(tokenizer, shown.prompt.normalize("NFC")).filter(({ spoken, at }) => spoken && at.length);
    const maps = words.map(({ at }) => Float32Array.from({ length: patches[0] * patches[1] }, (_, patch) => at.reduce((sum, n) => sum + shown.looked[patch * length + n], 0)));
    const most = Math.max(1e-6, ...maps.map((map) => Math.max(...map)));
    if (chosen !== null && chosen >= words.length) chosen = null;
    shown.maps = maps.map((map) => map.map((value) => value / most));
    looks.replaceChildren(...words.map(({ text }, n) => {
      const canvas = h("canvas", { "aria-hidden": "true" });
      paintGlow(canvas, shown.maps[n], ...patches, SMALL);
      const open = h("button", { type: "button", class: "sd-look-word", title: `where the picture looked at “${text}”`, "aria-pressed": chosen === n }, h("span", { class: "sd-text" }, text), canvas);
      open.addEventListener("click", () => { chosen = chosen === n ? null : n; light(); });
      open.addEventListener("pointerenter", () => light(n));
      open.addEventListener("pointerleave", () => light());
      return h("li", {}, open);
    }));
    light();
  }

  /** Lay a word's light over the picture: the one under the pointer, or else the chosen one. */
  function light(n = chosen) {
    [...looks.querySelectorAll("button")].forEach((open, at) => open.setAttribute("aria-pressed", at === chosen));
    heat.hidden = n === null;
    frame.classList.toggle("sd-dim", n !== null);
    if (n !== null) paintGlow(heat, shown.maps[n], ...patches);
  }

  function download() {
    if (!shown) return;
    const canvas = h("canvas", { width: side, height: side });
    canvas.getContext("2d").putImageData(pixelsOf(shown.pixels, side, side), 0, 0);
    canvas.toBlob((blob) => {
      const link = h("a", { href: URL.createObjectURL(blob), download: `${shown.prompt.replace(/[^\p{L}\p{N}]+/gu, "_").slice(0, 60) || "picture"}_${shown.seed}.png` });
      link.click();
      URL.revokeObjectURL(link.href);
    });
  }

  const field = (name, ...inside) => h("div", { class: "sd-field" }, h("span", { "aria-hidden": "true" }, name), ...inside);
  root.replaceChildren(panel(
    `${facts.name}, live`,
    h("div", { class: "sd-top" }, prompt, reading),
    h(
      "div",
      { class: "sd-split" },
      h("figure", { class: "sd-stage" }, frame, bar, status),
      h(
        "div",
        { class: "sd-controls" },
        guidance.root,
        steps.root,
        field("seed", h("div", { class: "sd-pair" }, seed, dice)),
        facts.embedded ? null : field("without", without),
        h("div", { class: "sd-verbs" }, save),
        message,
        h("p", { class: "sd-soft" }, "Attention: where the picture looked at each word"),
        looks,
      ),
    ),
    h("p", { class: "sd-steps-title" }, "Every step: the picture that the model has in mind"),
    strip,
    engine,
  ));
  read();
  return {
    connect(made) {
      worker = made;
      worker.onmessage = ({ data: { kind, ...told } }) => { if (told.number === undefined || told.number === number) heard[kind](told); };
      worker.onerror = (event) => heard.failed({ reason: event.message || "the browser could not start the model" });
    },
    failed: (reason) => heard.failed({ reason }),
  };
}

async function begin() {
  const facts = JSON.parse(taken("facts"));
  const app = start(document.getElementById("panel"), facts);
  try {
    const kind = (await graphics()) ? "graphics" : "processor";
    const other = kind === "graphics" ? "processor" : "graphics";
    for (const part of [other, `${other}-script`]) taken(part);
    const [source, assembly, ...networks] = await Promise.all([`${kind}-script`, kind, ...NETWORKS].map(unpacked));
    const graphs = Object.fromEntries(NETWORKS.map((name, n) => [name, networks[n]]));
    const worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
    app.connect(worker);
    worker.postMessage({ kind: "open", facts, graphs, assembly, graphics: kind === "graphics" });
  } catch (error) {
    app.failed(String(error?.message ?? error));
  }
}
begin();
