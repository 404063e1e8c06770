// torch.randn on a processor: the Mersenne Twister, and Box and Muller's transform in blocks of 16 as torch lays them out.

const SIZE = 624;
const SHIFT = 397;

/** Mersenne Twister 19937 (Matsumoto and Nishimura 1998), seeded as torch seeds it: with the lower 32 bits. */
export class Twister {
  constructor(seed) {
    this.state = new Uint32Array(SIZE);
    this.state[0] = Number(BigInt(seed) & 0xffffffffn);
    for (let n = 1; n < SIZE; n++) {
      const before = this.state[n - 1] ^ (this.state[n - 1] >>> 30);
      this.state[n] = Math.imul(before, 1812433253) + n;
    }
    this.place = SIZE;
  }

  renew() {
    const s = this.state;
    for (let n = 0; n < SIZE; n++) {
      const y = (s[n] & 0x80000000) | (s[(n + 1) % SIZE] & 0x7fffffff);
      s[n] = s[(n + SHIFT) % SIZE] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.place = 0;
  }

  /** The next number, 32 bits. */
  next() {
    if (this.place === SIZE) this.renew();
    let y = this.state[this.place++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  /** A number in 0 to 1 of 24 bits, all that a float holds. */
  uniform() {
    return (this.next() & 0xffffff) / 2 ** 24;
  }
}

/** Fill 16 places from 16 uniform numbers: the first eight give radii, the last eight angles. */
function normal(values, from) {
  for (let n = from; n < from + 8; n++) {
    const radius = Math.sqrt(-2 * Math.log(Math.fround(1 - values[n])));
    const angle = Math.fround(Math.fround(2 * Math.PI) * values[n + 8]);
    values[n] = radius * Math.cos(angle);
    values[n + 8] = radius * Math.sin(angle);
  }
}

/** `torch.randn(size, generator=torch.Generator().manual_seed(seed))` for 16 numbers and more, up to a float's rounding. */
export function randn(size, seed) {
  if (size < 16) throw new RangeError(`${size} numbers: torch draws fewer than 16 in another way`);
  const twister = new Twister(seed);
  const values = Float32Array.from({ length: size }, () => twister.uniform());
  for (let n = 0; n + 16 <= size; n += 16) normal(values, n);
  if (size % 16) {
    for (let n = size - 16; n < size; n++) values[n] = twister.uniform();
    normal(values, size - 16);
  }
  return values;
}
