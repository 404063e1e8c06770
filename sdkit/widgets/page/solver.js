// DDIM without added noise (Song et al., arXiv:2010.02502, equation 12), in the letters of diffusers' DDIMScheduler.
//
// `schedule` is {alphas_cumprod, final_alpha, prediction}: alphas_cumprod at each training step, what stands for the one
// after the last, and what the network predicts. A schedule whose last alpha is 0 (zero terminal SNR, arXiv:2305.08891)
// needs nothing special as long as the network predicts v.

function halfToEven(x) {
  const floor = Math.floor(x);
  if (x - floor !== 0.5) return Math.round(x);
  return floor % 2 ? floor + 1 : floor;
}

/** Moments of a run, the noisiest first: evenly spaced backwards from the end ("trailing"). */
export function timesteps(schedule, steps) {
  const total = schedule.alphas_cumprod.length;
  const moments = [];
  for (let n = 0; n < steps; n++) moments.push(halfToEven(total - n * (total / steps)) - 1);
  return moments;
}

/** What the network's prediction at a moment says of the picture, `x0`, and of the noise, `eps`. */
export function predicted(schedule, latents, prediction, moment) {
  const a = Math.sqrt(schedule.alphas_cumprod[moment]);
  const b = Math.sqrt(1 - schedule.alphas_cumprod[moment]);
  const x0 = new Float32Array(latents.length);
  const eps = new Float32Array(latents.length);
  for (let n = 0; n < latents.length; n++) {
    if (schedule.prediction === "v_prediction") {
      x0[n] = a * latents[n] - b * prediction[n];
      eps[n] = a * prediction[n] + b * latents[n];
    } else {
      x0[n] = (latents[n] - b * prediction[n]) / a;
      eps[n] = prediction[n];
    }
  }
  return { x0, eps };
}

/** From one moment to the next: `{latents, x0}`. */
export function step(schedule, latents, prediction, moment, steps) {
  const before = moment - Math.floor(schedule.alphas_cumprod.length / steps);
  const alpha = before >= 0 ? schedule.alphas_cumprod[before] : schedule.final_alpha;
  const { x0, eps } = predicted(schedule, latents, prediction, moment);
  const a = Math.sqrt(alpha);
  const b = Math.sqrt(1 - alpha);
  return { latents: x0.map((x, n) => a * x + b * eps[n]), x0 };
}

/** Classifier-free guidance (arXiv:2207.12598): a batch of two predictions, without the words and with them, to one. */
export function guided(pair, scale) {
  const half = pair.length / 2;
  return Float32Array.from({ length: half }, (_, n) => pair[n] + scale * (pair[half + n] - pair[n]));
}
