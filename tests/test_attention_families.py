"""Attention of every family that can be read: the picture stays, words stand where they are read, numbers are softmax."""

import numpy as np
import pytest
import standins
import torch
import torch.nn.functional as F

import sdkit
from sdkit.errors import CannotCapture
from sdkit.pipelines.families import denoiser_of, family_of

READ = (
    *(
        "sd15",
        "sdxl",
        "sd3",
        "flux",
        "flux2",
        "flux2_klein",
        "flux2_klein_kv",
        "z_image",
        "qwen_image",
    ),
    *("krea2", "sana", "pixart_sigma", "pixart_alpha", "lumina2", "chroma", "lcm", "cogview4"),
    *("cogview3_plus", "kolors", "sd15_pag", "sdxl_pag", "aura-flow", "bria", "ovis-image"),
    *("ernie-image", "kolors-pag"),
)
PROMPT, OTHER, SPELLED = "a red cat", "a blue cat", "a rod cat"


def options(name):
    side = standins.side_of(name)
    return {"steps": 2, "width": side, "height": side, "seed": 3, "progress": False}


@pytest.fixture(scope="module", params=READ)
def family(request):
    pipe = standins.build(request.param)
    return (
        request.param,
        pipe,
        sdkit.generate(pipe, PROMPT, attention=True, **options(request.param)),
    )


def test_the_picture_stays_the_same_to_the_bit(family):
    name, pipe, watched = family
    plain = sdkit.generate(pipe, PROMPT, **options(name))
    np.testing.assert_array_equal(watched.latents, plain.latents)
    size = watched.image.size
    for word in ("red", "cat"):
        seen = watched.attention[word]
        assert seen.shape[1] * size[1] == seen.shape[0] * size[0]
        assert np.isfinite(seen).all()
        assert seen.min() >= 0
        assert seen.max() > 0


def read_text(pipe, name, prompt):
    """What the denoiser is shown of the words of its first picture with words, `(T, D)`."""
    shown = []

    def take(_network, args, kwargs):
        text = next((kwargs[n] for n in ("encoder_hidden_states", "text_bth") if n in kwargs), None)
        text = args[2] if text is None else text
        rows = len(text)
        family = family_of(pipe)
        row = 0 if family.two_passes or family.conditional_first or rows == 1 else 1
        shown.append(text[row].float().flatten(1).clone())

    handle = denoiser_of(pipe).register_forward_pre_hook(take, with_kwargs=True)
    try:
        sdkit.generate(pipe, prompt, **options(name))
    finally:
        handle.remove()
    return shown[0]


def test_words_stand_where_another_word_changes_the_encoding_most(family):
    """An oracle that knows no tokenizer: the place where "blue" for "red" makes the greatest difference."""
    name, pipe, watched = family
    red = watched.attention.prompt.find("red")[0][0].positions
    other = SPELLED if len(red) > 1 else OTHER  # where a word is spelled, in as many letters
    one, two = read_text(pipe, name, PROMPT), read_text(pipe, name, other)
    change = (one - two).norm(dim=1)
    first = int((change > change.max() * 1e-6).nonzero()[0])
    # an encoder that reads from left to right leaves what stands before the word as it was
    assert int(change.argmax()) in red or first in red


def test_padding_and_templates_are_no_words(family):
    prompt = family[2].attention.prompt
    assert [w.text for w in prompt.words] == ["a", "red", "cat"]
    positions = [p for w in prompt.words for p in w.positions]
    assert len(set(positions)) == len(positions)
    assert max(positions) < prompt.length


# -- against an explicit softmax ---------------------------------------------------------------------------------------

# of each family: the row with the words in a guided batch, and where words and patches begin in the sequence, which the
# family's own transformer decides (16×16 patches for pictures of 32×32, filled up to 32 in Z-Image)
ORDER = {
    "z_image": (0, lambda words, patches: (patches, 0)),
    "krea2": (0, lambda words, patches: (0, words)),
    "qwen_image": (0, lambda words, patches: (0, words)),
    "flux2": (0, lambda words, patches: (0, words)),
    "cogview4": (0, lambda words, patches: (0, words)),
    "chroma": (0, lambda words, patches: (0, words)),
    "aura-flow": (1, lambda words, patches: (8, words + 8)),
    "bria": (1, lambda words, patches: (0, words)),
}


@pytest.mark.parametrize("name", ORDER)
def test_maps_are_the_softmax_of_the_very_queries_and_keys(name, monkeypatch):
    pipe = standins.build(name)
    kernel, calls = F.scaled_dot_product_attention, []

    def recording(
        query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, **rest
    ):
        calls.append((query.detach(), key.detach(), attn_mask))
        return kernel(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **rest)

    inside = {"on": False}

    def gate(query, key, value, *args, **kwargs):
        call = recording if inside["on"] else kernel
        return call(query, key, value, *args, **kwargs)

    network = denoiser_of(pipe)
    opened = network.register_forward_pre_hook(lambda *_: inside.update(on=True))
    closed = network.register_forward_hook(lambda *_: inside.update(on=False))
    monkeypatch.setattr(F, "scaled_dot_product_attention", gate)
    steps = 2 if name == "qwen_image" else 1  # its schedule divides by zero at one step
    settings = options(name) | {"steps": steps}
    maps = sdkit.generate(pipe, PROMPT, attention=True, **settings).attention
    opened.remove()
    closed.remove()
    row, order = ORDER[name]
    layer = maps.layers[0]
    patches = int(np.prod(layer.grid))
    length = maps.prompt.length
    filled = -(-patches // 32) * 32 if name == "z_image" else patches
    words_at, patches_at = order(length, filled)
    together = [
        call for call in calls if call[0].shape[-2] == call[1].shape[-2] >= filled + length
    ]  # not the words alone, nor the patches alone
    expected = []
    for query, key, mask in together[:: len(maps.layers)][:steps]:  # the first layer of each step
        q, k = query[row].double(), key[row].double()
        k = k.repeat_interleave(len(q) // len(k), 0)
        scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
        if mask is not None:
            allowed = mask[min(row, len(mask) - 1)]
            boolean = mask.dtype == torch.bool
            scores = scores.masked_fill(~allowed, -torch.inf) if boolean else scores + allowed
        p = scores.softmax(-1).mean(0)[patches_at : patches_at + patches]
        expected.append(p[:, words_at : words_at + layer.words.shape[-1]])
    found = torch.from_numpy(layer.words).reshape(patches, -1)
    assert (found - torch.stack(expected).mean(0)).abs().max() <= 1e-5


# -- what cannot be read -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in standins.EVERY if n not in READ])
def test_what_cannot_be_read_is_one_sentence_before_the_run(name):
    pipe = standins.build(name)
    with pytest.raises(CannotCapture, match=r"^.{20,}$"):
        sdkit.capture_attention(pipe)


# -- words that somebody taught ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("vectors", [1, 3])
def test_later_words_stand_behind_all_vectors_of_a_taught_one(vectors):
    pipe = standins.build("sd15")
    generator = torch.Generator().manual_seed(0)
    pipe.load_textual_inversion(
        {"<toy>": torch.randn(vectors, 32, generator=generator)}, token="<toy>"
    )
    pipe.text_encoder.eval()
    maps = sdkit.generate(pipe, "a <toy> car", attention=True, **options("sd15")).attention
    places = {word.text: word.positions for word in maps.prompt.words}
    assert places == {"a": (1,), "<toy>": tuple(range(2, 2 + vectors)), "car": (2 + vectors,)}
    ids = pipe.tokenizer(pipe.maybe_convert_prompt("a <toy> car", pipe.tokenizer)).input_ids
    assert pipe.tokenizer.convert_ids_to_tokens(ids[places["car"][0]]) == "car</w>"
    assert maps["<toy>"].shape == maps["car"].shape
