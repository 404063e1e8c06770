// PromptExplorer: every control changes one field of the settings; the picture follows.
import { button, choice, copy, follow, h, panel, sentence, settled, show, slider, stage, throttled, viewName } from "./kit.js";

export default {
  render({ model, el }) {
    const ended = new AbortController();
    const { signal } = ended;
    const limits = model.get("limits");
    const me = viewName(); // so that this view does not follow its own echo
    const values = {};

    const send = (moving = false) => model.send({ do: "set", values: { ...values }, by: me, moving });
    const sendSoon = throttled(send);
    const set = (name, value, moving) => { values[name] = value; sendSoon(moving); };
    const sendWords = settled(send, 250);
    const setWords = (name, value) => { values[name] = value; sendWords(); };

    // words
    const prompt = h("textarea", { class: "sd-prompt", rows: 2, "aria-label": "prompt", placeholder: "what to show", spellcheck: "false" });
    prompt.addEventListener("input", () => setWords("prompt", prompt.value));
    const negative = h("input", { type: "text", "aria-label": "negative prompt: what to keep away from", placeholder: "nothing" });
    negative.addEventListener("input", () => setWords("negative_prompt", negative.value));
    const words = h("p", { class: "sd-words", "aria-label": "the prompt as the model reads it" });

    // numbers
    const guidance = slider({ label: "guidance", min: 1, max: limits.guidance, step: 0.1, format: (x) => x.toFixed(1) }, (x, moving) => set("guidance_scale", x, moving));
    const steps = slider({ label: "steps", min: 1, max: limits.steps }, (x, moving) => set("steps", x, moving));
    const seed = h("input", { type: "number", min: 0, step: 1, "aria-label": "seed" });
    seed.addEventListener("input", () => { if (/^\d+$/.test(seed.value)) set("seed", Number(seed.value)); });
    const dice = button("⚄", () => { seed.value = Math.floor(Math.random() * 2 ** 31); set("seed", Number(seed.value)); }, { title: "another seed", kind: "sd-quiet" });
    const side = (width, height) => `${width}×${height}`;
    const size = choice("size", limits.sizes.map(([w, ht]) => [side(w, ht), side(w, ht)]), (text) => {
      [values.width, values.height] = text.split("×").map(Number);
      sendSoon();
    });
    const scheduler = choice("scheduler", limits.schedulers, (key) => set("scheduler", key || null));

    // picture
    const picture = stage();
    const bar = h("progress", { max: 1, value: 0, "aria-label": "steps done" });
    const status = h("p", { class: "sd-status", role: "status" });
    const message = sentence(model, signal);
    const code = h("code");
    const history = h("ol", { class: "sd-strip", "aria-label": "history" });

    // verbs
    const stop = button("Stop", () => model.send({ do: "stop" }), { title: "stop at once" });
    const undo = button("↶", () => model.send({ do: "go", way: -1 }), { title: "back to the picture before", kind: "sd-quiet" });
    const redo = button("↷", () => model.send({ do: "go", way: 1 }), { title: "forward to the next picture", kind: "sd-quiet" });
    const pin = button("Compare", () => model.send({ do: "pin" }), { title: "pin this picture and wipe between it and the next ones", pressed: false });
    const save = button("Save", () => model.send({ do: "save" }), { title: "save the picture beside the notebook, with its settings inside" });
    const copyCode = button("Copy as code", async () => {
      await copy(model.get("view").code ?? "");
      copyCode.textContent = "Copied";
      setTimeout(() => { copyCode.textContent = "Copy as code"; }, 1200);
    });

    follow(model, "asked", () => {
      const asked = model.get("asked");
      if (asked.by === me) return;
      for (const key of Object.keys(values)) delete values[key];
      prompt.value = asked.prompt;
      negative.value = asked.negative_prompt;
      guidance.set(asked.guidance_scale);
      steps.set(asked.steps);
      seed.value = asked.seed;
      scheduler.select.value = asked.scheduler ?? "";
      const text = side(asked.width, asked.height);
      if (![...size.select.options].some((option) => option.value === text)) size.select.append(h("option", { value: text }, text));
      size.select.value = text;
    }, signal);

    follow(model, "words", () => {
      const { words: list = [], used, limit } = model.get("words");
      const parts = list.map(({ text, kind, hint }) => (kind === "space" ? " " : h("span", { class: `sd-word sd-${kind}`, title: hint || null }, text)));
      const count = limit ? h("span", { class: used > limit ? "sd-count sd-over" : "sd-count" }, `${used} of ${limit} tokens`) : null;
      words.replaceChildren(...parts, ...(count ? [count] : []));
    }, signal);

    follow(model, "step", () => {
      const { step, total, picture: bytes } = model.get("step");
      const running = step !== undefined;
      stop.disabled = !running;
      bar.value = running && total ? step / total : 0;
      picture.preview(running);
      if (bytes?.byteLength) picture.now(bytes);
      else if (!running) picture.now(model.get("view").picture);
      status.textContent = running ? `step ${step} of ${total}` : model.get("view").caption ?? "";
    }, signal);

    follow(model, "view", () => {
      const view = model.get("view");
      picture.now(view.picture, view.prompt);
      status.textContent = view.caption ?? "";
      code.textContent = view.code ?? "";
      mark();
    }, signal);

    follow(model, "pinned", () => {
      const pinned = model.get("pinned");
      picture.pin(pinned.picture, pinned.caption && `pinned: ${pinned.caption}`);
      pin.setAttribute("aria-pressed", Boolean(pinned.picture));
    }, signal);

    follow(model, "history", () => { strip(history, model); mark(); }, signal);

    function mark() {
      const number = String(model.get("view").number);
      const items = [...history.children];
      items.forEach((item) => item.querySelector("button").setAttribute("aria-current", item.dataset.number === number));
      const here = items.findIndex((item) => item.dataset.number === number);
      undo.disabled = here <= 0;
      redo.disabled = here < 0 || here === items.length - 1;
      items[here]?.scrollIntoView?.({ block: "nearest", inline: "nearest" });
    }

    el.append(
      panel(
        "prompt explorer",
        h("div", { class: "sd-top" }, prompt, words),
        h(
          "div",
          { class: "sd-split" },
          h("figure", { class: "sd-stage" }, picture.root, bar, status),
          h(
            "div",
            { class: "sd-controls" },
            guidance.root,
            steps.root,
            h("div", { class: "sd-field" }, h("span", { "aria-hidden": "true" }, "seed"), h("div", { class: "sd-pair" }, seed, dice)),
            size.root,
            scheduler.root,
            h("div", { class: "sd-field" }, h("span", { "aria-hidden": "true" }, "without"), negative),
            h("div", { class: "sd-verbs" }, stop, undo, redo, pin, copyCode, save),
            message,
            h("details", { class: "sd-code" }, h("summary", {}, "the same in code"), h("pre", {}, code)),
          ),
        ),
        history,
      ),
    );
    return () => ended.abort();
  },
};

/** The pictures made so far: click to return, star to keep. */
function strip(list, model) {
  const made = new Map([...list.children].map((item) => [item.dataset.number, item]));
  list.replaceChildren(...model.get("history").map((entry) => {
    const item = made.get(String(entry.number)) ?? thumb(entry, model);
    const star = item.querySelector(".sd-star");
    star.setAttribute("aria-pressed", entry.favourite);
    star.textContent = entry.favourite ? "★" : "☆";
    return item;
  }));
}

function thumb({ number, picture, prompt, caption }, model) {
  const img = h("img", { alt: prompt, draggable: "false" });
  show(img, picture);
  const open = h("button", { type: "button", class: "sd-thumb", title: `${prompt}\n${caption}`, onclick: () => model.send({ do: "show", number }) }, img);
  const star = button("☆", () => model.send({ do: "star", number }), { title: "keep as a favourite", kind: "sd-star", pressed: false });
  return h("li", { "data-number": number }, open, star);
}
