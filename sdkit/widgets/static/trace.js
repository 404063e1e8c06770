// TraceExplorer: a run step by step. Any guidance at any step is mixed here, from two arrays that came once.
import { button, enlarge, follow, h, panel, sentence, show, slider } from "./kit.js";

export default {
  render({ model, el }) {
    const ended = new AbortController();
    const { signal } = ended;
    const live = model.get("live");
    let view = {};

    const step = slider({ label: "step", min: 1, max: 1, format: (n) => `${n} / ${view.steps ?? ""}` }, draw);
    const guidance = slider({ label: "guidance", min: -4, max: 16, step: 0.1, format: (x) => x.toFixed(1) }, draw);
    const own = button("Its own", () => { guidance.set(view.guidance); draw(); }, { title: "back to the guidance of the run" });
    const big = h("canvas", { class: "sd-film", role: "img", "aria-label": "what the step aims at" });
    const exact = h("img", { class: "sd-film", alt: "what the step aims at" });
    const frame = h("div", { class: "sd-frame" }, big, exact);
    const heading = h("p", { class: "sd-status", role: "status" });
    const noisy = tile("what the network saw", "img");
    const without = tile("without the words", "canvas");
    const within = tile("the words alone", "canvas");
    const final = tile("how the run ended", "img");
    const curve = chart();
    const message = sentence(model, signal);
    const prompt = h("input", { type: "text", "aria-label": "prompt from here on" });
    const seed = h("input", { type: "number", min: 0, "aria-label": "seed of fresh noise from here on" });
    const go = button("Continue from this step", () => model.send({ do: "fork", step: step.get(), changes: { prompt: prompt.value, guidance_scale: guidance.get(), ...(/^\d+$/.test(seed.value) ? { seed: Number(seed.value) } : {}) } }), { title: "make the picture that would have followed", kind: "sd-primary" });
    const stop = button("Stop", () => model.send({ do: "stop" }), { title: "stop at once" });
    const runs = h("ol", { class: "sd-strip", "aria-label": "this run and its branches" });

    function tile(text, tag) {
      const picture = h(tag, tag === "img" ? { alt: text } : { role: "img", "aria-label": text });
      return { picture, root: h("figure", { class: "sd-mini" }, h("div", { class: "sd-frame" }, picture), h("figcaption", {}, text)) };
    }

    /** Colours of a step: without the words, plus g times what the words add. */
    function mix(canvas, n, g) {
      const { without: base, words, rows, columns } = view.colours;
      const size = rows * columns * 3;
      const of = (part) => new Int8Array(part.bytes.buffer, part.bytes.byteOffset + n * size, size);
      const [a, b] = [of(base), of(words)];
      const pixels = new ImageData(columns, rows);
      for (let p = 0, q = 0; p < size; p += 3, q += 4) {
        for (let c = 0; c < 3; c++) pixels.data[q + c] = 127.5 * (a[p + c] * base.top + g * b[p + c] * words.top) + 128;
        pixels.data[q + 3] = 255;
      }
      enlarge(canvas, pixels);
    }

    function draw() {
      if (!view.steps) return;
      const n = step.get() - 1;
      const mixable = Boolean(view.colours.rows);
      const g = guidance.get();
      const remixed = mixable && Math.abs(g - view.guidance) > 0.049;
      show(exact, view.clean[n]);
      exact.hidden = remixed;
      big.hidden = !remixed;
      if (remixed) mix(big, n, g);
      show(noisy.picture, view.noisy[n]);
      if (mixable) { mix(without.picture, n, 0); mix(within.picture, n, 1); }
      own.disabled = !remixed;
      go.disabled = step.get() >= view.steps;
      curve.place(n);
      heading.textContent = `step ${n + 1}: what it aims at${remixed ? `, with guidance ${g.toFixed(1)} instead of ${view.guidance.toFixed(1)} (rough)` : ""}`;
    }

    /** Share of the picture in what the network saw, over the steps. */
    function chart() {
      const name = "http://www.w3.org/2000/svg";
      const svg = document.createElementNS(name, "svg");
      const [line, dot] = ["polyline", "circle"].map((kind) => document.createElementNS(name, kind));
      for (const [key, value] of Object.entries({ viewBox: "0 0 100 30", preserveAspectRatio: "none", class: "sd-curve", role: "img", "aria-label": "share of the picture in the latents, step by step" })) svg.setAttribute(key, value);
      dot.setAttribute("r", 1.6);
      svg.append(line);
      const mark = h("span", { class: "sd-dot" });
      const root = h("div", { class: "sd-chart", title: "share of the picture in what the network saw" }, svg, mark, h("span", { class: "sd-soft" }, "noise → picture"));
      const at = (n) => [(100 * n) / Math.max(1, view.steps - 1), 28 - 26 * view.signal[n]];
      return {
        root,
        set() { line.setAttribute("points", view.signal.map((_, n) => at(n).join(",")).join(" ")); },
        place(n) { const [x, y] = at(n); Object.assign(mark.style, { left: `${x}%`, top: `${(100 * y) / 30}%` }); },
      };
    }

    follow(model, "view", () => {
      const before = view;
      view = model.get("view");
      for (const one of [frame, ...el.querySelectorAll(".sd-mini .sd-frame")]) one.style.aspectRatio = `${view.width} / ${view.height}`;
      step.range(view.steps);
      step.set(before.steps === view.steps ? step.get() : Math.ceil(view.steps / 3));
      guidance.set(view.guidance ?? 1);
      guidance.root.hidden = own.hidden = !view.colours.rows;
      without.root.hidden = within.root.hidden = !view.colours.rows;
      prompt.value = view.prompt;
      seed.value = view.seed;
      show(final.picture, view.final);
      curve.set();
      draw();
      mark();
    }, signal);

    follow(model, "runs", () => {
      runs.hidden = model.get("runs").length < 2;
      runs.replaceChildren(...model.get("runs").map(({ number, picture, caption, prompt: text }) => {
        const img = h("img", { alt: `${text}; ${caption}` });
        show(img, picture);
        return h("li", { "data-number": number }, h("button", { type: "button", class: "sd-thumb", title: `${caption}\n${text}`, onclick: () => model.send({ do: "open", number }) }, img));
      }));
      mark();
    }, signal);

    follow(model, "step", () => {
      const running = model.get("step").step !== undefined;
      stop.disabled = !running;
      go.textContent = running ? "Continuing …" : "Continue from this step";
    }, signal);

    function mark() {
      for (const item of runs.children) item.querySelector("button").setAttribute("aria-current", item.dataset.number === String(view.number));
    }

    el.append(panel(
      "trace explorer",
      h("div", { class: "sd-split" },
        h("figure", { class: "sd-stage" }, frame, heading, step.root, h("div", { class: "sd-mixer" }, guidance.root, own), curve.root),
        h("div", { class: "sd-controls" },
          h("div", { class: "sd-minis" }, noisy.root, final.root, without.root, within.root),
          ...(live ? [
            h("div", { class: "sd-field" }, h("span", { "aria-hidden": "true" }, "prompt"), prompt),
            h("div", { class: "sd-field" }, h("span", { "aria-hidden": "true" }, "seed"), seed),
            h("div", { class: "sd-verbs" }, go, stop),
          ] : []),
          message)),
      live ? runs : h("span"),
    ));
    draw();
    return () => ended.abort();
  },
};
