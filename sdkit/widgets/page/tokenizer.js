// CLIP's byte-level BPE: text to the numbers that the text encoder reads, as Hugging Face's tokenizers make them.

// The first splits as CLIP does, the second as GPT-2 does what the first has found; both are in CLIP's tokenizer.json.
const CLIP = /<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\p{White_Space}\p{L}\p{N}]+/gu;
const GPT2 = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;
const END_OF_WORD = "</w>";

/** The character that stands for each byte: its own where it can be seen, else one of those from 256 on. */
function byteCharacters() {
  const seen = (b) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  let unseen = 256;
  return Array.from({ length: 256 }, (_, b) => String.fromCodePoint(seen(b) ? b : unseen++));
}

/** A tokenizer from `{vocab, merges, special: {text: id}, start, end, pad, length}`. */
export class Tokenizer {
  constructor({ vocab, merges, special, start, end, pad, length }) {
    Object.assign(this, { special, start, end, pad, length });
    this.vocab = new Map(Object.entries(vocab));
    this.rank = new Map(merges.map(([left, right], n) => [`${left} ${right}`, n]));
    this.bytes = byteCharacters();
    this.known = new Map();
  }

  /** What a prompt is read as: `ids` of fixed length, and `pieces` of `{id, text}` without what marks start and end. */
  read(prompt) {
    const pieces = this.pieces(prompt);
    const ids = [this.start, ...pieces.slice(0, this.length - 2).map(({ id }) => id), this.end];
    return { pieces, ids: [...ids, ...Array(this.length - ids.length).fill(this.pad)] };
  }

  pieces(prompt) {
    const names = Object.keys(this.special).map((name) => name.replace(/[|\\{}()[\]^$+*?.]/g, "\\$&"));
    return prompt.split(new RegExp(`(${names.join("|")})`, "u")).flatMap((part) => (
      part in this.special ? [{ id: this.special[part], text: part }] : this.plain(part)
    ));
  }

  plain(text) {
    // letter by letter: of a whole text, JavaScript would write a last Σ differently
    const small = [...text.normalize("NFC").replace(/\p{White_Space}+/gu, " ")].map((c) => c.toLowerCase()).join("");
    return (small.match(CLIP) ?? []).flatMap((word) => (word.match(GPT2) ?? []).flatMap((part) => this.word(part)));
  }

  word(text) {
    if (!this.known.has(text)) this.known.set(text, this.merged(text));
    return this.known.get(text);
  }

  /** Join the pair that was learned first, until none is left. */
  merged(text) {
    const encoded = [...new TextEncoder().encode(text)].map((byte) => this.bytes[byte]);
    encoded[encoded.length - 1] += END_OF_WORD;
    while (encoded.length > 1) {
      let best = -1;
      let lowest = Infinity;
      for (let n = 0; n + 1 < encoded.length; n++) {
        const rank = this.rank.get(`${encoded[n]} ${encoded[n + 1]}`) ?? Infinity;
        if (rank < lowest) [best, lowest] = [n, rank];
      }
      if (best < 0) break;
      encoded.splice(best, 2, encoded[best] + encoded[best + 1]);
    }
    return encoded.map((piece) => ({ id: this.vocab.get(piece) ?? this.end, text: piece.replace(END_OF_WORD, "") }));
  }
}

/**
 * The words of a prompt, `{text, index, at, spoken, known, cut}`: `at` are the places of their pieces in what the encoder
 * reads. Letters, digits and endings such as 's that touch make one word.
 */
export function wordsOf(tokenizer, prompt, vocabulary = null) {
  const words = [];
  let place = 1; // 0 marks the start
  for (const { 0: text, index } of prompt.matchAll(new RegExp(CLIP, "giu"))) {
    const count = tokenizer.pieces(text).length;
    const at = Array.from({ length: count }, (_, n) => place + n);
    const spoken = /[\p{L}\p{N}]/u.test(text);
    const last = words.at(-1);
    place += count;
    if (spoken && last?.spoken && last.index + last.text.length === index) {
      last.text += text;
      last.at.push(...at);
    } else {
      words.push({ text, index, at, spoken });
    }
  }
  return words.map((word) => {
    const at = word.at.filter((n) => n < tokenizer.length - 1);
    const letters = word.text.toLowerCase().match(/\p{L}+/gu) ?? [];
    return { ...word, at, known: !vocabulary || letters.every((text) => vocabulary.has(text)), cut: at.length < word.at.length };
  });
}
