// WalkExplorer: edit keyframes, look through the walk while frames still arrive, play it.
import { button, choice, copy, follow, h, panel, sentence, settled, slider, viewName } from "./kit.js";

export default {
  render({ model, el }) {
    const ended = new AbortController();
    const { signal } = ended;
    const me = viewName();
    const live = model.get("live");
    const limits = model.get("limits");

    // the picture: frames are decoded once and drawn from memory
    const canvas = h("canvas", { class: "sd-film", role: "img" });
    const bar = h("progress", { max: 1, value: 0, "aria-label": "frames made" });
    const status = h("p", { class: "sd-status", role: "status" });
    const message = sentence(model, signal);
    let frames = []; // { at, bitmap }, in playing order
    let loop = false;
    let drawn = null;

    const place = slider({ label: "place", min: 0, max: 1, step: 0.001, format: (x) => `${Math.round(100 * x)} %` }, () => { pause(); draw(); });
    const speed = slider({ label: "speed", min: 2, max: 30, value: 10, format: (x) => `${x}/s` }, () => { if (timer) { pause(); play(); } });
    const swing = h("input", { type: "checkbox" });
    const toggle = button("▶ Play", () => (timer ? pause() : play()), { title: "play or pause (space)", kind: "sd-primary" });
    let timer = null;
    let at = 0;
    let way = 1;

    function nearest(x) {
      return frames.reduce((best, frame, n) => (Math.abs(frame.at - x) < Math.abs(frames[best].at - x) ? n : best), 0);
    }

    function draw(n = nearest(place.get())) {
      const frame = frames[n];
      if (!frame) return;
      at = n;
      if (frame === drawn) return;
      drawn = frame;
      const { width, height } = frame.bitmap;
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
      canvas.getContext("2d").drawImage(frame.bitmap, 0, 0);
      canvas.dataset.frame = n;
      canvas.setAttribute("aria-label", `frame ${n + 1} of ${frames.length}`);
    }

    function play() {
      toggle.textContent = "⏸ Pause";
      timer = setInterval(() => {
        if (frames.length < 2) return;
        let next = at + way;
        if (swing.checked && (next < 0 || next >= frames.length)) { way = -way; next = at + way; }
        if (!swing.checked) { way = 1; next %= frames.length; }
        place.set(frames[next].at);
        draw(next);
      }, 1000 / speed.get());
    }

    function pause() {
      clearInterval(timer);
      timer = null;
      toggle.textContent = "▶ Play";
    }

    let newest = 0;
    async function load(list) {
      const mine = ++newest;
      const known = new Map(frames.map((frame) => [frame.key, frame]));
      const made = await Promise.all(list.map(async ({ at: where, picture }) => {
        const key = `${where}:${picture.byteLength}`;
        return known.get(key) ?? { at: where, key, bitmap: await createImageBitmap(new Blob([picture])) };
      }));
      if (mine !== newest) return; // later frames were decoded sooner
      frames = made;
      drawn = null;
      draw();
    }

    // keyframes and paths
    const rows = h("ol", { class: "sd-keys", "aria-label": "keyframes" });
    const tell = () => model.send({ do: "set", keyframes: [...rows.children].map((row) => row.read()), options: options(), by: me });
    const soon = settled(tell, 350);
    const options = () => ({ frames: count.get(), steps: steps.get(), words: words.select.value, noise: noise.select.value, pacing: pacing.select.value, loop: closed.checked });

    function row({ prompt, seed }) {
      const text = h("input", { type: "text", value: prompt, "aria-label": "prompt of this keyframe", oninput: soon });
      const number = h("input", { type: "number", min: 0, value: seed, "aria-label": "seed of this keyframe", oninput: soon });
      const item = h("li", {}, text, number,
        button("↑", () => { item.previousElementSibling?.before(item); tell(); }, { title: "earlier", kind: "sd-quiet" }),
        button("✕", () => { if (rows.children.length > 2) { item.remove(); tell(); } }, { title: "remove this keyframe", kind: "sd-quiet" }));
      const first = Number(number.value);
      item.read = () => ({ prompt: text.value, seed: /^\d+$/.test(number.value) ? Number(number.value) : first });
      return item;
    }

    const options_of = (list) => list.map((one) => [one, one]);
    const count = slider({ label: "frames", min: 2, max: limits.frames }, soon);
    const steps = slider({ label: "steps", min: 1, max: limits.steps }, soon);
    const words = choice("words", options_of(limits.words), tell);
    const noise = choice("noise", options_of(limits.noise), tell);
    const pacing = choice("pacing", options_of(limits.pacing), tell);
    const closed = h("input", { type: "checkbox", onchange: tell });
    const add = button("+ keyframe", () => {
      if (rows.children.length >= limits.keyframes) return;
      const last = rows.lastElementChild.read();
      rows.append(row({ ...last, seed: last.seed + 1 }));
      rows.lastElementChild.querySelector("input").select();
      tell();
    });
    const stop = button("Stop", () => model.send({ do: "stop" }), { title: "stop at once" });
    const films = [".mp4", ".gif"].map((suffix) => button(`Export ${suffix}`, () => model.send({ do: "export", suffix }), { title: `save the walk as ${suffix} beside the notebook` }));
    const code = button("Copy as code", () => copy(model.get("view").code ?? ""));

    follow(model, "asked", () => {
      const asked = model.get("asked");
      if (asked.by === me) return;
      rows.replaceChildren(...asked.keyframes.map(row));
      count.set(asked.frames);
      steps.set(asked.steps);
      words.select.value = asked.words;
      noise.select.value = asked.noise;
      pacing.select.value = asked.pacing;
      closed.checked = asked.loop;
    }, signal);

    follow(model, "step view", () => {
      const { step, total, frames: fresh } = model.get("step");
      const view = model.get("view");
      const running = step !== undefined;
      loop = view.loop ?? false;
      stop.disabled = !running;
      for (const made of [...films, code]) made.disabled = running || !view.frames;
      bar.value = running && total ? step / total : 0;
      if (fresh) load(fresh);
      else if (!running && view.frames) load(view.frames);
      status.textContent = running ? (fresh ? `${step} of ${total} frames` : "…") : view.frames ? `${view.frames.length} frames${loop ? ", a loop" : ""}` : "";
    }, signal);

    const root = panel(
      "walk explorer",
      h("div", { class: "sd-split" },
        h("figure", { class: "sd-stage" }, h("div", { class: "sd-frame" }, canvas), bar, status, place.root,
          h("div", { class: "sd-verbs" }, toggle, h("label", { class: "sd-check" }, swing, "there and back"), speed.root)),
        live
          ? h("div", { class: "sd-controls" }, rows, h("div", { class: "sd-verbs" }, add, stop), count.root, steps.root, words.root, noise.root, pacing.root,
              h("label", { class: "sd-check" }, closed, "close the loop"), h("div", { class: "sd-verbs" }, ...films, code), message)
          : h("div", { class: "sd-controls" }, h("ol", { class: "sd-keys sd-told" }, ...model.get("asked").keyframes.map(({ prompt, seed }) => h("li", {}, h("span", {}, prompt), h("span", { class: "sd-soft" }, `seed ${seed}`)))))),
    );
    root.addEventListener("keydown", (event) => {
      if (event.key === " " && event.target === root.querySelector("canvas")) { event.preventDefault(); toggle.click(); }
    });
    el.append(root);
    return () => { pause(); ended.abort(); };
  },
};
