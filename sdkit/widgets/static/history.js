// HistoryExplorer: everything arrives once; the slider moves through the training.
import { enlarge, follow, glow, h, panel, show, slider } from "./kit.js";

export default {
  render({ model, el }) {
    const ended = new AbortController();
    const { signal } = ended;
    const img = h("img", { alt: "", draggable: "false" });
    const heat = h("canvas", { class: "sd-heat", "aria-hidden": "true", hidden: true });
    const frame = h("div", { class: "sd-frame" }, img, heat);
    const status = h("p", { class: "sd-status", role: "status" });
    const strip = h("ol", { class: "sd-strip", "aria-label": "moments of the training" });
    const list = h("ol", { class: "sd-bars", "aria-label": "words of the prompt" });
    const told = h("p", { class: "sd-soft" });
    let view = null, hovered = null, locked = null;
    const moment = slider({ label: "training", min: 0, max: 1, format: () => "" }, () => draw());

    const count = (n) => Number(n).toLocaleString("en");

    function draw() {
      const at = moment.get();
      const word = hovered ?? locked;
      show(img, view.pictures[at]);
      img.alt = `the picture after ${count(view.moments[at])} scenes`;
      status.textContent = `after ${count(view.moments[at])} scenes`;
      frame.classList.toggle("sd-dim", word !== null);
      heat.hidden = word === null;
      if (word !== null) paint(view.words[word], at);
      [...strip.children].forEach((item, n) => item.firstChild.setAttribute("aria-current", n === at));
      [...list.children].forEach((item, n) => {
        item.classList.toggle("sd-hover", n === hovered);
        item.querySelector("button").setAttribute("aria-pressed", n === locked);
        item.querySelector("output").textContent = `${Math.round(100 * view.words[n].grown[at])} %`;
        const dot = item.querySelector(".sd-dot");
        Object.assign(dot.style, { left: `${across(at)}%`, top: `${100 - 100 * view.words[n].grown[at]}%` });
      });
    }

    const across = (n) => (100 * n) / Math.max(1, view.moments.length - 1);

    function paint({ maps, rows, columns }, at) {
      const bytes = new Uint8Array(maps.buffer, maps.byteOffset + at * rows * columns, rows * columns);
      const pixels = new ImageData(columns, rows);
      bytes.forEach((value, n) => pixels.data.set([...glow(value / 255), 255], 4 * n));
      enlarge(heat, pixels);
    }

    function curve(word) {
      const space = "http://www.w3.org/2000/svg";
      const line = document.createElementNS(space, "polyline");
      line.setAttribute("points", word.grown.map((value, n) => `${across(n)},${100 - 100 * value}`).join(" "));
      const drawing = document.createElementNS(space, "svg");
      for (const [name, value] of [["class", "sd-curve"], ["viewBox", "0 0 100 100"], ["preserveAspectRatio", "none"], ["aria-hidden", "true"]]) drawing.setAttribute(name, value);
      drawing.append(line);
      return h("div", { class: "sd-chart" }, drawing, h("div", { class: "sd-dot" }));
    }

    follow(model, "view", () => {
      view = model.get("view");
      frame.style.aspectRatio = `${view.width} / ${view.height}`;
      moment.range(view.moments.length - 1);
      moment.set(view.moments.length - 1);
      told.textContent = view.caption;
      strip.replaceChildren(...view.thumbs.map((bytes, n) => {
        const small = h("img", { alt: `after ${count(view.moments[n])} scenes` });
        show(small, bytes);
        return h("li", {}, h("button", { type: "button", class: "sd-thumb", title: `after ${count(view.moments[n])} scenes`, onclick: () => { moment.set(n); draw(); } }, small));
      }));
      list.replaceChildren(...view.words.map((word, n) => h("li", { onpointerenter: () => { hovered = n; draw(); }, onpointerleave: () => { hovered = null; draw(); } },
        h("button", { type: "button", class: "sd-bar", title: "click to keep this word's attention on the picture", "aria-pressed": false, onclick: () => { locked = locked === n ? null : n; draw(); } }, h("span", { class: "sd-text" }, word.text), h("output")),
        curve(word))));
      draw();
    }, signal);

    el.append(panel(
      "history explorer",
      h("div", { class: "sd-split" },
        h("figure", { class: "sd-stage" }, frame, status, moment.root),
        h("div", { class: "sd-controls" }, h("p", { class: "sd-soft" }, "how far each word's attention has come to where it ends"), list, told)),
      strip,
    ));
    return () => ended.abort();
  },
};
