"""A page with the model inside: its script against Python, and what it refuses."""

import json
import random
import subprocess
import unicodedata

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from playwright._impl._driver import compute_driver_executable

import sdkit
from sdkit.cli import main
from sdkit.errors import CannotSave, InvalidSettings, MissingExtra
from sdkit.models.graphs import graph_of, reduced
from sdkit.pipelines.tokens import read_prompt
from sdkit.pocket.eightbit import packed, unpacked
from sdkit.widgets import page
from sdkit.widgets.page import networks, runtime, script, write


def node(names, code, **given):
    """What a piece of script prints as JSON, run in Node behind modules of the page."""
    program, _ = compute_driver_executable()  # the Node that Playwright brings
    text = f"{script(*names)}\nconst given = {json.dumps(given)};\nconsole.log(JSON.stringify((() => {{ {code} }})()));"
    done = subprocess.run(
        [program, "-"], input=text, capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def prompts(count):
    """Sentences as people type them, and strings of anything."""
    chance = random.Random(0)
    known = sdkit.pocket.vocabulary()
    odd = [
        "don't",
        "it's",
        "'s",
        "İstanbul",
        "ΟΔΟΣ",
        "naïve",
        "e\u0301",
        "ﬁ",
        "日本語",
        "🦊🦊",
        "x²",
        "½",
        "１２",
        "42",
        "3d",
    ]
    odd += [
        "<|endoftext|>",
        "<|startoftext|>",
        "<|ENDOFTEXT|>",
        "<|",
        "!!'s",
        "a_b",
        "\u00a0",
        "\u3000",
        "\ufeff",
        "\u0085",
    ]
    odd += ["\t", "\n", "--", "(red:1.3)", "ǅ", "ß", "ẞ", "नमस्ते", "مرحبا", "👩‍🚀", "…", "\u200b", "ok'", "'ll", "''"]  # fmt: skip
    made = []
    for n in range(count):
        source = known if n % 3 == 0 else (*known[::5], *odd * 3)
        words = [chance.choice(source) for _ in range(chance.randint(0, 14))]
        if n % 5 == 4:
            signs = [chr(chance.randint(33, 0x24FF)) for _ in range(8)]
            # signs younger than Python's tables have no order among accents that all would agree on
            words += ["".join(s for s in signs if unicodedata.category(s) != "Cn")]
        made.append(chance.choice([" ", " ", ", ", ""]).join(words))
    return made


def test_words_are_read_as_python_reads_them(pocket):
    texts = prompts(500)
    told = networks.facts(pocket)["tokenizer"]
    code = (
        "const t = new Tokenizer(given.told); return given.texts.map((text) => t.read(text).ids);"
    )
    found = node(["tokenizer.js"], code, told=told, texts=texts)
    limit = pocket.tokenizer.model_max_length
    wanted = [
        pocket.tokenizer(t, padding="max_length", truncation=True, max_length=limit).input_ids
        for t in texts
    ]
    assert [t for t, a, b in zip(texts, found, wanted, strict=True) if a != b] == []


def test_words_stand_where_python_finds_them(pocket):
    text = "two naïve foxes, 42 cats don't sleep!! and a 3d dog's bed" + " sleep" * 30
    told = networks.facts(pocket)["tokenizer"]
    code = """const t = new Tokenizer(given.told);
    return wordsOf(t, given.text, new Set(["foxes", "and"])).filter(({ spoken }) => spoken);"""
    found = node(["tokenizer.js"], code, told=told, text=text)
    read = [w for w in read_prompt(pocket.tokenizer, text).words if w.spoken]
    assert [w["text"] for w in found] == [w.text for w in read]
    whole = [w for w in found if not w["cut"]]
    assert [w["at"] for w in whole] == [list(w.positions) for w in read[: len(whole)]]
    assert {w["text"] for w in found if w["known"]} == {"foxes", "and", "42"}


@pytest.mark.parametrize("seed", [0, 7, 2**31 + 5, 2**40 + 3])
@pytest.mark.parametrize("size", [16, 1024, 1037])
def test_noise_is_torchs_own(seed, size):
    found = node(["noise.js"], "return [...randn(given.size, given.seed)];", size=size, seed=seed)
    wanted = torch.randn(size, generator=torch.Generator().manual_seed(seed)).numpy()
    assert np.abs(np.float32(found) - wanted).max() < 2e-6


@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon"])
def test_the_solver_is_diffusers_own(pocket, prediction):
    scheduler = DDIMScheduler.from_config(
        pocket.scheduler.config,
        prediction_type=prediction,
        rescale_betas_zero_snr=prediction == "v_prediction",
    )
    chance = np.random.default_rng(0)
    code = """return given.runs.map(({ steps, start, said }) => {
      let latents = Float32Array.from(start);
      return timesteps(given.schedule, steps).map((moment) => {
        latents = step(given.schedule, latents, Float32Array.from(said), moment, steps).latents;
        return [moment, [...latents]];
      });
    });"""
    runs = [
        {"steps": n, "start": chance.normal(size=20).tolist(), "said": chance.normal(size=20).tolist()}
        for n in (1, 2, 3, 4, 7, 20, 33)
    ]  # fmt: skip
    schedule = {
        "alphas_cumprod": scheduler.alphas_cumprod.tolist(),
        "final_alpha": float(scheduler.final_alpha_cumprod),
        "prediction": prediction,
    }
    found = node(["solver.js"], code, runs=runs, schedule=schedule)
    for run, steps in zip(runs, found, strict=True):
        scheduler.set_timesteps(run["steps"])
        assert [moment for moment, _ in steps] == scheduler.timesteps.tolist()
        latents, said = torch.tensor(run["start"]), torch.tensor(run["said"])
        for moment, latent in steps:
            latents = scheduler.step(said, moment, latents).prev_sample
            assert np.allclose(latent, latents, rtol=1e-4, atol=1e-5)


def test_the_graph_is_the_network_and_tells_its_attention(pocket):
    import onnxruntime

    graph = networks.graphs(pocket)["denoiser"]
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        words = pocket.encode_prompt("a red car on a beach", "cpu", 1, False)[0]
    latents = torch.randn(1, 24, 16, 16, generator=torch.Generator().manual_seed(7))
    seen = {}

    def look(unet, args, kwargs, out):
        seen["prediction"] = out[0].numpy()

    handle = pocket.unet.register_forward_hook(look, with_kwargs=True)
    settings = {"seed": 7, "steps": 1, "guidance_scale": 1.0, "progress": False}
    try:
        with sdkit.capture_attention(pocket) as capture:
            sdkit.generate(pocket, "a red car on a beach", **settings)
    finally:
        handle.remove()
    moment = np.float32([pocket.scheduler.timesteps[0]])
    inputs = {"latents": latents.numpy(), "moment": moment, "words": words.numpy()}
    prediction, looked = session.run(None, inputs)
    assert np.abs(prediction - seen["prediction"]).max() < 1e-5
    (at,) = capture.maps.prompt.positions("car")
    known = capture.maps.word("car", size=(16, 16))
    assert np.abs(looked[:, at].reshape(16, 16) - known).max() < 1e-5


def test_turbo_is_told_its_guidance(tiny):
    from diffusers import UNet2DConditionModel

    config = {k: v for k, v in tiny.unet.config.items() if k != "_use_default_values"}
    unet = UNet2DConditionModel.from_config({**config, "time_cond_proj_dim": 16})
    tiny.register_modules(unet=unet)
    networks.check(tiny)
    told = networks.facts(tiny)
    assert told["embedded"]
    import onnxruntime

    session = onnxruntime.InferenceSession(networks.graphs(tiny)["denoiser"])
    latents, words = torch.randn(1, *told["latents"]), torch.randn(1, 32, tiny.unet.config.cross_attention_dim)  # fmt: skip
    for guidance in (1.0, 6.5):
        scale = tiny.get_guidance_scale_embedding(torch.tensor([guidance - 1]), embedding_dim=16)
        with torch.no_grad():
            wanted = tiny.unet(latents, 500, words, timestep_cond=scale).sample
        given = {"latents": latents, "moment": torch.tensor([500.0]), "words": words}
        arrays = {n: t.numpy() for n, t in given.items()} | {"guidance": np.float32([guidance])}
        assert np.abs(session.run(None, arrays)[0] - wanted.numpy()).max() < 2e-3  # half precision


def test_what_a_page_cannot_hold_is_one_sentence(tiny, tmp_path, monkeypatch):
    with pytest.raises(CannotSave, match=r"must end in .html"):
        write(tiny, tmp_path / "page.png")
    monkeypatch.setattr(networks, "_MOST", 1000)
    with pytest.raises(InvalidSettings, match="models of up to 0 million parameters"):
        write(tiny, tmp_path / "page.html")
    monkeypatch.undo()
    monkeypatch.setenv("SDKIT_RUNTIME", str(tmp_path))
    monkeypatch.setattr(runtime, "_ADDRESS", (tmp_path / "absent.tgz").as_uri())
    with pytest.raises(MissingExtra, match=r"could not be fetched .* put this file there: file:"):
        write(tiny, tmp_path / "page.html")
    (tmp_path / "absent.tgz").write_bytes(b"another file")
    with pytest.raises(MissingExtra, match=r"not onnxruntime-web 1\.30\.0 as it was published"):
        write(tiny, tmp_path / "page.html")
    (tmp_path / "absent.tgz").unlink()
    tiny.scheduler = EulerDiscreteScheduler()
    with pytest.raises(InvalidSettings, match="DDIM and trailing steps"):
        write(tiny, tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("eight", [True, False])
def test_a_graphs_weights_are_stored_small_and_compute_the_same(eight):
    import onnxruntime

    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(8, 16, 3), torch.nn.Flatten(0, 2), torch.nn.Linear(16, 32))  # fmt: skip
    if eight:
        network.load_state_dict(unpacked(packed(network.state_dict())))
    else:
        network.half().float()
    x = torch.randn(1, 8, 18, 18)
    whole = graph_of(network, {"x": x}, ["y"], {})
    small = reduced(whole)
    assert len(small) < len(whole) - (2.5 if eight else 1.8) * (8 * 16 * 9 + 16 * 32)
    session = onnxruntime.InferenceSession(small, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        np.testing.assert_allclose(session.run(None, {"x": x.numpy()})[0], network(x), atol=1e-5)


@pytest.mark.parametrize("names", [page._PANEL, page._WORKER], ids=["panel", "worker"])
def test_the_joined_scripts_declare_no_name_twice(names, tmp_path):
    place = tmp_path / "joined.mjs"
    place.write_text(script(*names), encoding="utf-8")
    program, _ = compute_driver_executable()
    checked = subprocess.run(
        [program, "--check", place], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_the_runtime_becomes_plain_script(tmp_path, monkeypatch):
    text = b"const a=import.meta.url,b=2;export{a as env,b as default};\n//# map"
    monkeypatch.setattr(runtime, "_member", lambda name: text)
    code = f"const self = {{ location: {{ href: 'here' }} }}; {runtime.BUILDS['processor'].plain_script()} return [ort.env, ort.default];"
    assert node([], code) == ["here", 2]


def test_the_command_writes_a_page_of_pocket(monkeypatch, tmp_path, capsys):
    asked = []
    monkeypatch.setattr(
        "sdkit.widgets.page.write",
        lambda pipe, path, settings: asked.append((pipe, path, settings)) or path,
    )
    assert main(["page", str(tmp_path / "live.html"), "--prompt", "a fox", "--seed", "5"]) == 0
    ((pipe, path, settings),) = asked
    assert settings.prompt == "a fox"
    assert settings.seed == 5
    assert networks.check(pipe) is None
    assert capsys.readouterr().out.strip() == str(path)
