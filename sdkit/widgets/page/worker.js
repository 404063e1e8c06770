// Behind a page: it draws noise, asks the networks and solves, in a thread of its own so that the page never waits.
//
// `ort` is the runtime, which stands before this text. The newest request outdates all others: between two evaluations
// the worker listens, and what is outdated stops there.

let model = null;
let newest = 0;

const answer = (kind, values = {}, transfer = []) => postMessage({ kind, ...values }, transfer);
const tensor = (values, shape) => new ort.Tensor("float32", values, shape);
/** Let messages in: the runtime's promises alone would never give them a turn. */
const listen = () => new Promise((resume) => { setTimeout(resume); });

onmessage = async ({ data: { kind, ...values } }) => {
  try {
    if (kind === "open") await open(values);
    else if (kind === "make") await make(values);
  } catch (error) {
    answer("failed", { number: values.number, reason: String(error?.message ?? error) });
  }
};

/** Open the networks: on the graphics card if there is one and it is faster, else on the processor. */
async function open({ facts, graphs, assembly, graphics }) {
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = assembly;
  const onProcessor = (graph) => ort.InferenceSession.create(graph, { executionProviders: ["wasm"] });
  model = { facts, words: await onProcessor(graphs.words), decoder: await onProcessor(graphs.decoder) };
  const candidates = [{ place: "processor", denoiser: await onProcessor(graphs.denoiser) }];
  if (graphics) {
    try {
      const denoiser = await ort.InferenceSession.create(graphs.denoiser, { executionProviders: ["webgpu"] });
      candidates.push({ place: "graphics", denoiser });
    } catch { /* the processor is there */ }
  }
  if (candidates.length > 1) {
    for (const candidate of candidates) candidate.time = await timed(candidate.denoiser);
    candidates.sort((one, other) => one.time - other.time);
    await candidates.pop().denoiser.release();
  }
  Object.assign(model, candidates[0]);
  answer("open", { place: model.place });
}

/** Milliseconds of one evaluation; the first one, which prepares, does not count. A runtime that fails is never the fastest. */
async function timed(denoiser) {
  const { latents, tokenizer } = model.facts;
  const ids = new ort.Tensor("int32", new Int32Array(tokenizer.length), [1, tokenizer.length]);
  const { words } = await model.words.run({ ids });
  const zeros = tensor(new Float32Array(latents.reduce((a, b) => a * b)), [1, ...latents]);
  const inputs = { latents: zeros, moment: tensor([999], [1]), words, ...(model.facts.embedded ? { guidance: tensor([4], [1]) } : {}) };
  try {
    await denoiser.run(inputs);
    const began = performance.now();
    await denoiser.run(inputs);
    return performance.now() - began;
  } catch {
    return Infinity;
  }
}

/** Make a picture: tell of every step, then of the picture, then what each step had made of it. */
async function make({ number, ids, without, seed, steps, guidance }) {
  newest = number;
  const { facts } = model;
  const { schedule, latents: shape, embedded } = facts;
  const size = shape.reduce((a, b) => a * b);
  const twice = !embedded && guidance > 1;
  const texts = twice ? [without, ids] : [ids];
  const { words } = await model.words.run({ ids: new ort.Tensor("int32", Int32Array.from(texts.flat()), [texts.length, ids.length]) });
  const moments = timesteps(schedule, steps);
  const looked = new Float32Array(facts.patches[0] * facts.patches[1] * ids.length);
  const guesses = [];
  const began = performance.now();
  let latents = randn(size, seed);
  for (const [n, moment] of moments.entries()) {
    await listen();
    if (newest !== number) return;
    const pair = twice ? Float32Array.of(...latents, ...latents) : latents;
    const inputs = { latents: tensor(pair, [texts.length, ...shape]), moment: tensor([moment], [1]), words };
    if (embedded) inputs.guidance = tensor([guidance], [1]);
    const { prediction, attention } = await model.denoiser.run(inputs);
    const noise = twice ? guided(prediction.data, guidance) : prediction.data;
    const next = step(schedule, latents, noise, moment, steps);
    latents = next.latents;
    attention.data.forEach((value, at) => { looked[at] += value / steps; });
    guesses.push(next.x0);
    if (n + 1 < steps) answer("step", { number, step: n + 1, steps, preview: roughly(facts, next.x0) });
  }
  const pixels = await decoded(latents);
  const seconds = (performance.now() - began) / 1000;
  answer("picture", { number, pixels, looked, seconds, steps });
  for (const [n, guess] of guesses.entries()) {
    await listen();
    if (newest !== number) return;
    answer("guess", { number, step: n + 1, moment: moments[n], pixels: await decoded(guess) });
  }
}

/** Levels (H, W, 3) of latents, through the autoencoder. */
async function decoded(latents) {
  const { pixels } = await model.decoder.run({ latents: tensor(latents, [1, ...model.facts.latents]) });
  return Uint8ClampedArray.from(pixels.data);
}

/** Levels (h, w, 3) of latents at once: one colour for each latent pixel, a linear function of its channels. */
function roughly({ latents: [channels, rows, columns], colours }, values) {
  const area = rows * columns;
  const levels = new Uint8ClampedArray(3 * area);
  for (let at = 0; at < area; at++) {
    for (let c = 0; c < 3; c++) {
      let colour = colours[channels][c];
      for (let k = 0; k < channels; k++) colour += values[k * area + at] * colours[k][c];
      levels[3 * at + c] = colour * 127.5 + 128;
    }
  }
  return levels;
}
