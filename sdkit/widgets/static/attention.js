// AttentionExplorer: maps of all words arrive once; whatever is hovered afterwards is drawn here.
// With a pipeline in the kernel, the light of the one word that is chosen follows the pointer, and the kernel is told where it was let go.
import { button, enlarge, follow, glow, h, panel, sentence, settled, show, slider } from "./kit.js";

const LOCKED = [[255, 140, 26], [64, 156, 255]]; // two words side by side: orange and blue

export default {
  render({ model, el }) {
    const ended = new AbortController();
    const { signal } = ended;
    const img = h("img", { alt: "the picture that the attention belongs to", draggable: "false" });
    const canvas = h("canvas", { class: "sd-heat", "aria-hidden": "true" });
    const pin = h("div", { class: "sd-pin", hidden: true });
    const frame = h("div", { class: "sd-frame sd-look", tabindex: 0, role: "group", "aria-label": "the picture: point at it, or move with the arrow keys, to see which words looked there" }, img, canvas, pin);
    const list = h("ol", { class: "sd-bars", "aria-label": "words of the prompt" });
    const status = h("p", { class: "sd-status", role: "status" });

    let hovered = null; // index of a word
    let locked = []; // up to two
    let point = null; // [x, y] in 0..1
    let pinned = false;
    let words = [], planes = {}, data = null, layers = [];
    let lights = {}; // word → how far its light was pushed, [x, y] in shares of the picture
    let waiting = false; // keys were pressed, and the kernel is told as soon as they rest
    let dragged = null; // where the pointer took hold of it, and how far it had been pushed then

    const step = slider({ label: "step", min: 0, max: 1, format: (n) => (n ? String(n) : "all") }, () => { if (step.get()) reset(layer, head); draw(); });
    const layer = slider({ label: "layer", min: 0, max: 1, format: (n) => (n ? `${n}` : "all") }, () => { step.set(0); head.set(0); draw(); });
    const head = slider({ label: "head", min: 0, max: 1, format: (n) => (n ? String(n) : "all") }, () => { step.set(0); if (head.get() && !layer.get()) layer.set(1); draw(); });
    const reset = (...sliders) => sliders.forEach((one) => one.set(0));
    const name = h("p", { class: "sd-soft sd-name" });
    const even = h("input", { type: "checkbox", onchange: () => draw() });
    const clear = button("Release", () => { locked = []; point = null; pinned = false; draw(); }, { title: "release the locked words and the point (Escape)" });
    const back = button("Put back", () => { lights = {}; model.send({ do: "restore" }); draw(); }, { title: "all light where it was, and the first picture" });
    const stop = button("Stop", () => model.send({ do: "stop" }), { title: "stop at once" });
    const message = sentence(model, signal);

    function key() {
      if (step.get()) return `step:${step.get() - 1}`;
      const chosen = layers[layer.get() - 1];
      if (!chosen) return "all";
      const wanted = head.get() ? `head:${chosen}:${head.get() - 1}` : `layer:${chosen}`;
      return planes[wanted] ? wanted : `layer:${chosen}`;
    }

    /** The map of one word in the chosen part: bytes, rows, columns. */
    function plane(word) {
      const [offset, rows, columns] = planes[key()];
      const size = rows * columns;
      const values = new Uint8Array(data.buffer, data.byteOffset + offset + word * size, size);
      return { values: lights[word] ? pushed(values, rows, columns, lights[word]) : values, rows, columns };
    }

    function pushed(values, rows, columns, [x, y]) {
      const [right, down] = [Math.round(x * columns), Math.round(y * rows)];
      return values.map((_, n) => {
        const [row, column] = [Math.floor(n / columns) - down, (n % columns) - right];
        return row < 0 || row >= rows || column < 0 || column >= columns ? 0 : values[row * columns + column];
      });
    }

    /** The centre of a word's light as it was at first: what is above 0.3 of its peak, as the kernel has it. */
    function centre(word) {
      const [offset, rows, columns] = planes.all;
      const values = new Uint8Array(data.buffer, data.byteOffset + offset + word * rows * columns, rows * columns);
      const least = 0.3 * values.reduce((a, b) => Math.max(a, b), 0);
      let [count, x, y] = [0, 0, 0];
      values.forEach((value, n) => { if (value > least) { count++; x += (n % columns) + 0.5; y += Math.floor(n / columns) + 0.5; } });
      return [x / count / columns, y / count / rows];
    }

    const pushable = () => model.get("live") && model.get("view").pushes && locked.length === 1;
    const send = (word) => {
      waiting = false;
      const at = centre(word);
      model.send({ do: "push", word, x: at[0] + lights[word][0], y: at[1] + lights[word][1] });
    };
    const sendSoon = settled(send, 400);

    /** Push the light of the chosen word; its centre stays in the picture. */
    function push([x, y]) {
      const at = centre(locked[0]);
      lights = { ...lights, [locked[0]]: [x, y].map((by, n) => Math.min(Math.max(by, -at[n]), 1 - at[n])) };
      draw();
    }

    function draw() {
      const shownWords = locked.length ? locked : hovered === null ? [] : [hovered];
      const extra = locked.length === 1 && hovered !== null && hovered !== locked[0] ? [hovered] : [];
      paint([...shownWords, ...extra]);
      bars();
      const chosen = layers[layer.get() - 1];
      name.textContent = chosen && !step.get() ? chosen : "";
      frame.classList.toggle("sd-dim", shownWords.length > 0);
      pin.hidden = !point;
      if (point) Object.assign(pin.style, { left: `${100 * point[0]}%`, top: `${100 * point[1]}%` });
      clear.disabled = !locked.length && !pinned;
      frame.classList.toggle("sd-grab", pushable());
      back.disabled = !Object.keys(lights).length;
    }

    function paint(chosen) {
      if (!chosen.length) { canvas.hidden = true; return; }
      const maps = chosen.map(plane);
      const { rows, columns } = maps[0];
      const tops = maps.map(({ values }) => Math.max(1, even.checked ? 255 : values.reduce((a, b) => Math.max(a, b), 0)));
      canvas.hidden = false;
      const pixels = new ImageData(columns, rows);
      for (let n = 0; n < rows * columns; n++) {
        const colour = maps.length === 1 ? glow(maps[0].values[n] / tops[0]) : [0, 1, 2].map((c) => maps.reduce((sum, map, m) => sum + (map.values[n] / tops[m]) * LOCKED[m][c], 0));
        pixels.data.set([...colour.map((c) => Math.min(255, c)), 255], 4 * n);
      }
      enlarge(canvas, pixels);
    }

    /** Bars beside the words: how a point shared its attention between them, or how much each got of the whole picture. */
    function bars() {
      const amounts = words.map((_, word) => {
        const { values, rows, columns } = plane(word);
        if (!point) return values.reduce((a, b) => a + b, 0);
        return values[Math.min(rows - 1, Math.floor(point[1] * rows)) * columns + Math.min(columns - 1, Math.floor(point[0] * columns))];
      });
      const total = amounts.reduce((a, b) => a + b, 0) || 1;
      const top = Math.max(...amounts, 1);
      [...list.children].forEach((item, word) => {
        item.style.setProperty("--sd-share", amounts[word] / top);
        item.querySelector("output").textContent = `${Math.round((100 * amounts[word]) / total)} %`;
        const place = locked.indexOf(word);
        const made = item.querySelector("button");
        made.setAttribute("aria-pressed", place >= 0);
        item.style.setProperty("--sd-bar", place >= 0 && locked.length + (hovered !== null) > 1 ? `rgb(${LOCKED[place]})` : "");
        item.classList.toggle("sd-hover", word === hovered);
      });
      if (pushable()) status.textContent = `drag the light of “${words[locked[0]]}”, or push it with the arrow keys`;
      else status.textContent = point ? "how this point shared its attention" : "how the words shared the picture's attention";
    }

    function lock(word) {
      locked = locked.includes(word) ? locked.filter((one) => one !== word) : [...locked.slice(-1), word];
      draw();
    }

    function hover(word) { if (hovered !== word) { hovered = word; draw(); } }

    const place = (event) => {
      const box = frame.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height].map((x) => Math.min(Math.max(x, 0), 0.999));
    };
    frame.addEventListener("pointermove", (event) => {
      if (!dragged) return;
      dragged.moved = true;
      const [x, y] = place(event);
      push([dragged.light[0] + x - dragged.from[0], dragged.light[1] + y - dragged.from[1]]);
    });
    const release = () => {
      const before = dragged;
      dragged = null;
      if (before?.moved) send(locked[0]);
    };
    frame.addEventListener("pointerup", release);
    frame.addEventListener("pointercancel", release);
    frame.addEventListener("pointermove", (event) => { if (!pinned && !dragged) { point = place(event); draw(); } });
    frame.addEventListener("pointerleave", () => { if (!pinned) { point = null; draw(); } });
    frame.addEventListener("pointerdown", (event) => {
      if (!pushable()) return;
      point = null;
      pinned = false;
      dragged = { from: place(event), light: lights[locked[0]] ?? [0, 0] };
      frame.setPointerCapture(event.pointerId);
    });
    frame.addEventListener("pointerdown", (event) => { if (pushable()) return; point = place(event); pinned = true; draw(); });
    frame.addEventListener("keydown", (event) => {
      const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!way) return;
      event.preventDefault();
      if (pushable()) {
        const [x, y] = lights[locked[0]] ?? [0, 0];
        push([x + way[0] / 16, y + way[1] / 16]);
        waiting = true;
        sendSoon(locked[0]);
        return;
      }
      point = (point ?? [0.5, 0.5]).map((x, n) => Math.min(Math.max(x + way[n] / 16, 0), 0.999));
      pinned = true;
      draw();
    });

    follow(model, "view data", () => {
      const view = model.get("view");
      ({ words, planes, layers } = view);
      data = model.get("data");
      show(img, view.picture);
      frame.style.aspectRatio = `${view.width} / ${view.height}`;
      step.range(view.steps);
      layer.range(layers.length);
      head.range(Math.max(0, ...Object.values(view.heads)));
      step.root.hidden = !view.steps;
      layer.root.hidden = !layers.length;
      head.root.hidden = !Object.values(view.heads).some(Boolean);
      list.replaceChildren(...words.map((word, n) => {
        const made = h("button", { type: "button", class: "sd-bar", title: "click to lock; lock two to compare", "aria-pressed": false, onclick: () => lock(n), onfocus: () => hover(n), onblur: () => hover(null) }, h("span", { class: "sd-text" }, word), h("output"));
        return h("li", { onpointerenter: () => hover(n), onpointerleave: () => hover(null) }, made);
      }));
      locked = [];
      draw();
    }, signal);

    /** Light lies where the picture on show has it. */
    function settle() {
      if (dragged || waiting) return;
      const moved = model.get("moved");
      lights = Object.fromEntries((moved.places ?? []).map(([word, to]) => { const at = centre(word); return [word, [to[0] - at[0], to[1] - at[1]]]; }));
      show(img, moved.picture ?? model.get("view").picture);
      draw();
    }
    follow(model, "moved", settle, signal);
    follow(model, "step", () => {
      const { step: done, total, picture } = model.get("step");
      const running = done !== undefined;
      stop.disabled = !running;
      stop.textContent = running && done ? `Stop (${done}/${total})` : "Stop";
      if (running && picture) show(img, picture);
      else if (!running) settle();
    }, signal);

    const root = panel(
      "attention explorer",
      h("div", { class: "sd-split" },
        h("figure", { class: "sd-stage" }, frame, status),
        h("div", { class: "sd-controls" }, list, step.root, layer.root, name, head.root,
          h("label", { class: "sd-check" }, even, "one scale for all words"), h("div", { class: "sd-verbs" }, clear, ...(model.get("live") && model.get("view").pushes ? [back, stop] : [])), message)),
    );
    root.addEventListener("keydown", (event) => { if (event.key === "Escape") { locked = []; point = null; pinned = false; draw(); } });
    el.append(root);
    return () => ended.abort();
  },
};
