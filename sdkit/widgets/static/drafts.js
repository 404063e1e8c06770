// DraftsBoard: a sheet of drafts. They arrive one after the other; clicking one branches new ones from it.
import { button, follow, h, panel, sentence, settled, show, slider, throttled, viewName } from "./kit.js";

export default {
  render({ model, el }) {
    const ended = new AbortController();
    const { signal } = ended;
    const limits = model.get("limits");
    const me = viewName();
    const send = (values) => model.send({ do: "set", values, by: me });
    const soon = throttled((_moving, name, value) => send({ [name]: value }));
    const words = settled((name, value) => send({ [name]: value }), 300);

    const prompt = h("textarea", { class: "sd-prompt", rows: 1, "aria-label": "prompt", spellcheck: "false" });
    prompt.addEventListener("input", () => words("prompt", prompt.value));
    const count = slider({ label: "drafts", min: 2, max: limits.count }, (x, moving) => soon(moving, "count", x));
    const steps = slider({ label: "steps", min: 1, max: limits.steps }, (x, moving) => soon(moving, "steps", x));
    const amount = slider({ label: "stray", min: 0.02, max: 1, step: 0.01, format: (x) => x.toFixed(2) }, (x, moving) => soon(moving, "amount", x));
    const seeds = button("New seeds", () => model.send({ do: "set", values: { seed: Math.floor(Math.random() * 2 ** 31) }, by: "new seeds" }), { title: "a fresh sheet from the prompt" });
    const stop = button("Stop", () => model.send({ do: "stop" }), { title: "stop at once" });
    const save = button("Export sheet", () => model.send({ do: "export" }), { title: "save the kept drafts, or all of them, as one picture beside the notebook" });
    const message = sentence(model, signal);
    const trail = h("nav", { class: "sd-trail", "aria-label": "where these drafts come from" });
    const sheet = h("ol", { class: "sd-sheet", "aria-label": "drafts" });
    const tray = h("ol", { class: "sd-strip", "aria-label": "kept drafts" });
    const kept = h("div", { class: "sd-kept" }, h("span", { class: "sd-soft" }, "kept"), tray);

    follow(model, "asked", () => {
      const asked = model.get("asked");
      amount.root.hidden = !model.get("trail").length;
      fit(asked.count);
      if (asked.by === me) return;
      prompt.value = asked.prompt;
      count.set(asked.count);
      steps.set(asked.steps);
      amount.set(asked.amount);
    }, signal);

    follow(model, "trail", () => {
      const bases = model.get("trail");
      const items = [button("prompt", () => model.send({ do: "back", depth: 0 }), { title: "back to the drafts from the prompt" })];
      bases.forEach((base, n) => {
        const img = h("img", { alt: base.caption });
        show(img, base.picture);
        items.push(h("span", { "aria-hidden": "true" }, "›"));
        items.push(h("button", { type: "button", class: "sd-thumb", title: base.caption, "aria-current": n === bases.length - 1, onclick: () => model.send({ do: "back", depth: n + 1 }) }, img));
      });
      trail.replaceChildren(...(bases.length ? items : []));
      amount.root.hidden = !bases.length;
    }, signal);

    follow(model, "step", () => {
      const { step, total, place, picture, finished } = model.get("step");
      const running = Object.keys(model.get("step")).length > 0;
      stop.disabled = !running;
      sheet.classList.toggle("sd-running", running);
      if (!running) [...sheet.children].forEach((tile) => { if (tile.told) fill(tile, tile.told); });
      if (step === 0) [...sheet.children].forEach((tile) => tile.classList.add("sd-old"));
      if (place === undefined) return;
      const tile = sheet.children[place];
      if (!tile) return;
      if (finished) fill(tile, finished);
      else {
        tile.style.setProperty("--sd-done", total ? step / total : 0);
        if (picture?.byteLength) { show(tile.querySelector("img"), picture); tile.classList.remove("sd-old"); }
      }
    }, signal);

    follow(model, "view", () => {
      const drafts = model.get("view").drafts;
      if (!drafts) return;
      fit(drafts.length);
      drafts.forEach((draft, n) => fill(sheet.children[n], draft));
    }, signal);

    follow(model, "tray", () => {
      const drafts = model.get("tray");
      kept.hidden = !drafts.length;
      tray.replaceChildren(...drafts.map((draft) => { const tile = empty(); fill(tile, draft); return tile; }));
      mark();
    }, signal);


    /** Make the sheet this many tiles long. */
    function fit(length) {
      while (sheet.children.length > length) sheet.lastChild.remove();
      while (sheet.children.length < length) sheet.append(empty());
    }

    function empty() {
      const tile = h("li", { class: "sd-tile" });
      const to = (verb) => () => { if (tile.dataset.number) model.send({ do: verb, number: Number(tile.dataset.number) }); };
      const img = h("img", { alt: "", draggable: "false" });
      img.hidden = true;
      tile.append(
        h("button", { type: "button", class: "sd-open", title: "branch new drafts from this one", "aria-label": "branch from this draft", onclick: to("branch"), disabled: true }, img),
        button("♥", to("keep"), { title: "keep", kind: "sd-mark sd-heart", pressed: false }),
        button("✕", to("discard"), { title: "discard", kind: "sd-mark sd-drop" }),
      );
      return tile;
    }

    function fill(tile, told) {
      const { number, picture, caption, prompt: text, discarded = false } = told;
      tile.told = told;
      tile.hidden = discarded;
      tile.dataset.number = number;
      tile.classList.remove("sd-old");
      tile.style.removeProperty("--sd-done");
      const img = tile.querySelector("img");
      show(img, picture);
      img.alt = `${text}; ${caption}`;
      tile.querySelector(".sd-open").disabled = false;
      tile.querySelector(".sd-open").title = `${caption}\nclick to branch new drafts from this one`;
      mark();
    }

    function mark() {
      const numbers = new Set(model.get("tray").map((draft) => String(draft.number)));
      for (const tile of [...sheet.children, ...tray.children]) tile.querySelector(".sd-heart").setAttribute("aria-pressed", numbers.has(tile.dataset.number));
    }

    el.append(panel(
      "drafts board",
      prompt,
      h("div", { class: "sd-row" }, count.root, steps.root, amount.root),
      h("div", { class: "sd-verbs" }, seeds, stop, save),
      message,
      trail,
      sheet,
      kept,
    ));
    return () => ended.abort();
  },
};
