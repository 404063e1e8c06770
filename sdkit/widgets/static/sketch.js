// Sketchpad: two layers at native size, a brush, and the picture made from them.
//
// Layers: the paper as it was given, the paint on it, and the mask over both. Erasing takes paint or mask away and
// never the paper. After each stroke both layers go to the kernel as PNG.
import { button, copy, follow, h, panel, sentence, settled, slider, stage, throttled, viewName } from "./kit.js";

const COLOURS = ["#1d2127", "#ffffff", "#868e96", "#e03131", "#f76707", "#ffd43b", "#2f9e44", "#1c7ed6", "#7048e8", "#e64980", "#8d5524", "#f1c7a5"];
const NAMES = ["black", "white", "grey", "red", "orange", "yellow", "green", "blue", "violet", "pink", "brown", "skin"];
const MASK = "#e64980"; // as it is shown; what goes to the kernel is white on black
const MOST_UNDO = 30;

export default {
  render({ model, el }) {
    const ended = new AbortController();
    const { signal } = ended;
    const me = viewName();
    const limits = model.get("limits");
    const values = {};
    const send = throttled(() => model.send({ do: "set", values: { ...values }, by: me }));
    const set = (name, value, moving) => { values[name] = value; send(moving); };
    const words = settled(set, 250);

    // layers
    const paper = layer("paper");
    const paint = layer("paint");
    const mask = layer("mask");
    const ring = h("div", { class: "sd-ring" });
    const board = h("div", { class: "sd-board", role: "img", tabindex: 0, "aria-label": "drawing board: draw with the pointer; keys b, e, m choose brush, eraser, mask, z undoes" }, paper, paint, mask, ring);
    let tool = "brush";
    let colour = COLOURS[0];
    let size = 0.09; // of the board's width
    let past = [];

    function layer(kind) { return h("canvas", { class: `sd-layer sd-${kind}`, "aria-hidden": "true" }); }
    const pen = (canvas) => canvas.getContext("2d", { willReadFrequently: canvas !== paper });
    const painted = (canvas) => pen(canvas).getImageData(0, 0, canvas.width, canvas.height).data.some((x, n) => n % 4 === 3 && x > 0);
    const target = () => (tool === "mask" || tool === "unmask" ? mask : paint);

    function remember() {
      const canvas = target();
      past.push([canvas, pen(canvas).getImageData(0, 0, canvas.width, canvas.height)]);
      past = past.slice(-MOST_UNDO);
      undo.disabled = false;
    }

    function stroke(from, to) {
      const context = pen(target());
      const erasing = tool === "erase" || tool === "unmask";
      context.globalCompositeOperation = erasing ? "destination-out" : "source-over";
      context.strokeStyle = tool === "mask" ? MASK : colour;
      context.lineWidth = Math.max(1, size * paper.width);
      context.lineCap = context.lineJoin = "round";
      context.beginPath();
      context.moveTo(...from);
      context.lineTo(to[0] + 0.01, to[1]); // a dot is a line too
      context.stroke();
    }

    const blob = (canvas) => new Promise((done) => { canvas.toBlob(async (made) => done(await made.arrayBuffer()), "image/png"); });
    async function tell() {
      const whole = h("canvas", { width: paper.width, height: paper.height });
      whole.getContext("2d").drawImage(paper, 0, 0);
      whole.getContext("2d").drawImage(paint, 0, 0);
      const black = h("canvas", { width: paper.width, height: paper.height });
      const context = black.getContext("2d");
      context.drawImage(mask, 0, 0);
      context.globalCompositeOperation = "source-in";
      context.fillStyle = "#ffffff";
      context.fillRect(0, 0, black.width, black.height);
      context.globalCompositeOperation = "destination-over";
      context.fillStyle = "#000000";
      context.fillRect(0, 0, black.width, black.height);
      model.send({ do: "draw", masked: painted(mask) }, undefined, [await blob(whole), await blob(black)]);
    }

    // the pointer: mouse, pen or finger
    let last = null;
    const place = (event) => {
      const box = paper.getBoundingClientRect();
      return [((event.clientX - box.left) / box.width) * paper.width, ((event.clientY - box.top) / box.height) * paper.height];
    };
    board.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      event.preventDefault();
      board.focus({ preventScroll: true });
      board.setPointerCapture(event.pointerId);
      remember();
      last = place(event);
      stroke(last, last);
    });
    board.addEventListener("pointermove", (event) => {
      const box = board.getBoundingClientRect();
      Object.assign(ring.style, { left: `${event.clientX - box.left}px`, top: `${event.clientY - box.top}px`, width: `${size * box.width}px` });
      if (!last) return;
      for (const part of event.getCoalescedEvents?.() ?? [event]) {
        const next = place(part);
        stroke(last, next);
        last = next;
      }
    });
    const lift = () => { if (last) { last = null; tell(); } };
    board.addEventListener("pointerup", lift);
    board.addEventListener("pointercancel", lift);
    board.addEventListener("keydown", (event) => {
      const known = { b: "brush", e: "erase", m: "mask", u: "unmask" }[event.key];
      if (known) choose(known);
      else if (event.key === "z") back();
    });

    function back() {
      const [canvas, pixels] = past.pop() ?? [];
      if (canvas) { pen(canvas).putImageData(pixels, 0, 0); tell(); }
      undo.disabled = !past.length;
    }

    function wipe() {
      remember();
      pen(target()).clearRect(0, 0, paper.width, paper.height);
      tell();
    }

    function fill() {
      remember();
      const context = pen(target());
      context.globalCompositeOperation = "source-over";
      context.fillStyle = target() === mask ? MASK : colour;
      context.fillRect(0, 0, paper.width, paper.height);
      tell();
    }

    // tools
    const tools = h("div", { class: "sd-verbs", role: "group", "aria-label": "tool" });
    for (const [kind, text, title] of [["brush", "Brush", "draw (b)"], ["erase", "Eraser", "take paint away (e)"], ["mask", "Mask", "paint what is to be made anew (m)"], ["unmask", "Unmask", "take the mask away (u)"]]) {
      const made = button(text, () => choose(kind), { title, pressed: kind === tool });
      made.dataset.tool = kind;
      tools.append(made);
    }
    function choose(kind) {
      tool = kind;
      for (const made of tools.children) made.setAttribute("aria-pressed", made.dataset.tool === kind);
      colours.classList.toggle("sd-off", tool !== "brush");
    }
    const colours = h("div", { class: "sd-colours", role: "group", "aria-label": "colour" });
    COLOURS.forEach((value, n) => {
      const made = h("button", { type: "button", class: "sd-colour", style: `background:${value}`, title: NAMES[n], "aria-label": NAMES[n], "aria-pressed": n === 0, onclick: () => pick(value) });
      made.dataset.colour = value;
      colours.append(made);
    });
    const own = h("input", { type: "color", class: "sd-colour", "aria-label": "another colour", title: "another colour", value: "#20c997", oninput: () => pick(own.value) });
    colours.append(own);
    function pick(value) {
      colour = value;
      choose("brush");
      for (const made of colours.children) made.setAttribute("aria-pressed", made.dataset.colour === value);
    }
    const brush = slider({ label: "brush", min: 1, max: 40, value: 9, format: (x) => `${x} %` }, (x) => { size = x / 100; });
    const undo = button("↶", back, { title: "undo (z)", kind: "sd-quiet" });
    undo.disabled = true;

    // settings and picture
    const prompt = h("textarea", { class: "sd-prompt", rows: 1, "aria-label": "prompt", spellcheck: "false", oninput: () => words("prompt", prompt.value) });
    const strength = slider({ label: "strength", min: 0.05, max: 1, step: 0.01, value: 0.6, format: (x) => x.toFixed(2) }, (x, moving) => set("strength", x, moving));
    const guidance = slider({ label: "guidance", min: 1, max: limits.guidance, step: 0.1, format: (x) => x.toFixed(1) }, (x, moving) => set("guidance_scale", x, moving));
    const seed = h("input", { type: "number", min: 0, "aria-label": "seed", oninput: () => { if (/^\d+$/.test(seed.value)) set("seed", Number(seed.value)); } });
    const dice = button("⚄", () => { seed.value = Math.floor(Math.random() * 2 ** 31); set("seed", Number(seed.value)); }, { title: "another seed", kind: "sd-quiet" });
    const picture = stage();
    const bar = h("progress", { max: 1, value: 0, "aria-label": "steps done" });
    const status = h("p", { class: "sd-status", role: "status" });
    const message = sentence(model, signal);
    const stop = button("Stop", () => model.send({ do: "stop" }), { title: "stop at once" });
    const adopt = button("Draw on it", () => model.send({ do: "adopt" }), { title: "lay the picture on the paper" });
    const save = button("Save", () => model.send({ do: "save" }), { title: "save the picture beside the notebook" });
    const code = button("Copy as code", () => copy(model.get("view").code ?? ""));

    follow(model, "paper", () => {
      const { width, height, picture: bytes } = model.get("paper");
      for (const canvas of [paper, paint, mask]) Object.assign(canvas, { width, height });
      board.style.aspectRatio = `${width} / ${height}`;
      picture.root.style.aspectRatio = `${width} / ${height}`;
      past = [];
      undo.disabled = true;
      createImageBitmap(new Blob([bytes])).then((bitmap) => pen(paper).drawImage(bitmap, 0, 0));
    }, signal);

    follow(model, "asked", () => {
      const asked = model.get("asked");
      if (asked.by === me) return;
      for (const key of Object.keys(values)) delete values[key]; // older than what another view has asked for
      prompt.value = asked.prompt;
      strength.set(asked.strength);
      guidance.set(asked.guidance_scale);
      seed.value = asked.seed;
    }, signal);

    follow(model, "step view", () => {
      const { step, total, picture: bytes } = model.get("step");
      const view = model.get("view");
      const running = step !== undefined;
      stop.disabled = !running;
      bar.value = running && total ? step / total : 0;
      if (bytes?.byteLength) picture.now(bytes, view.prompt);
      else if (!running && view.picture) picture.now(view.picture, view.prompt);
      status.textContent = running ? `step ${step} of ${total}` : view.caption ?? "draw something, and the picture follows";
      for (const made of [adopt, save, code]) made.disabled = !view.picture;
    }, signal);

    el.append(panel(
      "sketchpad",
      prompt,
      h("div", { class: "sd-pads" },
        h("div", {}, board, h("div", { class: "sd-tools" }, tools, colours, brush.root,
          h("div", { class: "sd-verbs" }, undo, button("Clear", wipe, { title: "clear this layer" }), button("Fill", fill, { title: "fill this layer" })))),
        h("figure", { class: "sd-stage" }, picture.root, bar, status, h("div", { class: "sd-tools" }, strength.root, guidance.root,
          h("div", { class: "sd-field" }, h("span", { "aria-hidden": "true" }, "seed"), h("div", { class: "sd-pair" }, seed, dice)),
          h("div", { class: "sd-verbs" }, stop, adopt, code, save), message)),
      ),
    ));
    return () => ended.abort();
  },
};
