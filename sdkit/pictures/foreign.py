"""Settings in the pictures of other programs.

A1111's text comes first, since many programs write it beside their own. Programs that write flat JSON (SwarmUI, Easy
Diffusion, Fooocus, NovelAI, InvokeAI) need only a table of names. ComfyUI's graphs and InvokeAI's old forms are read
by the package sd-parsers (extra ``foreign``); without it, the error names the program.

The one decision: **the texts of a stranger's file are data.** They are looked up in tables, and whatever is wrong ends
in a note, or in one `BadPicture`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from sdkit.errors import BadPicture

from .carriers import USER_COMMENT
from .parameters import read_parameters
from .reading import Reading, known_name, read_pairs

if TYPE_CHECKING:
    from sd_parsers.data import Sampler

__all__ = ["read_texts"]

_Chunks = Mapping[str, str]
_Objects = Mapping[str, dict[str, Any]]

_NO_SETTINGS: Final = (
    "this picture holds no settings (no 'sdkit' or 'parameters' text): pass settings by hand"
)
_NEEDS: Final = "this picture was made by {program}, whose settings are read by the package sd-parsers: pip install 'sdkit-notebooks[foreign]', or pass settings by hand"
_UNREADABLE: Final = (
    "this picture was made by {program}, but its settings cannot be read: pass settings by hand"
)
_MADE_BY: Final = "made by {program}, which draws noise and spaces steps in its own way: these settings make a similar picture, not the same"
_CHUNKS: Final = frozenset({"prompt", "workflow", "Comment", "Description", "Software", "Source"})
_MOST_NODES: Final = (
    600  # large graphs have some 300; sd-parsers' time grows with the square and more
)
_LABELLED: Final = re.compile(r"(prompt|workflow):\s*(?=\{)", re.IGNORECASE)


def read_texts(found: Sequence[tuple[str, str]]) -> Reading:
    """Read settings from the texts of a picture file.

    Parameters
    ----------
    found
        Names and texts, as `carriers.texts` returns them.

    Returns
    -------
    Reading
        Of the first text that can be read.

    Raises
    ------
    BadPicture
        If there are no settings, or none that can be read; a program that is recognised is named.
    """
    chunks: dict[str, str] = {}
    objects: dict[str, dict[str, Any]] = {}
    refusal = BadPicture(_NO_SETTINGS)
    for name, text in found:
        label = _LABELLED.match(text)
        key = label[1].lower() if label else name.lower()
        content = _object(text[label.end() :] if label else text)
        if content is not None:
            objects.setdefault(key, content)
            # In JPEG and WebP several chunks share one text: ComfyUI's two graphs, all of NovelAI's.
            objects |= {
                k.lower(): v for k, v in content.items() if k in _CHUNKS and isinstance(v, dict)
            }
            chunks |= {
                k.lower(): v for k, v in content.items() if k in _CHUNKS and isinstance(v, str)
            }
            continue
        chunks.setdefault(key, text)
        try:
            return read_parameters(text)
        except BadPicture as error:
            if name.lower() == "parameters" or name == USER_COMMENT:
                refusal = error
    for read in (_flat_json, _fooocus, _invokeai, _novelai, _easy_diffusion, _comfyui):
        reading = read(chunks, objects)
        if reading is not None:
            return reading
    raise refusal


def _object(text: str) -> dict[str, Any] | None:
    try:
        content = json.loads(text) if text.lstrip().startswith("{") else None
        # Some write JSON into JSON, as text.
        return {k: _inner(v) for k, v in content.items()} if isinstance(content, dict) else None
    except (ValueError, RecursionError):
        return None


def _inner(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("{") and value.endswith("}"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _flat_json(_chunks: _Chunks, objects: _Objects) -> Reading | None:
    for content in objects.values():
        program = _flat_program(content)
        if program:
            return _flat(program, content.get("sui_image_params", content))
    return None


def _easy_diffusion(chunks: _Chunks, _objects: _Objects) -> Reading | None:
    # In PNG each setting has a chunk of its own.
    return _flat("Easy Diffusion", chunks) if _flat_program(chunks) == "Easy Diffusion" else None


def _fooocus(chunks: _Chunks, _objects: _Objects) -> Reading | None:
    if "fooocus_scheme" in chunks:  # and its JSON, which would have been read by now, is damaged
        raise BadPicture(_UNREADABLE.format(program="Fooocus"))
    return None


def _flat_program(content: Mapping[str, Any]) -> str | None:
    if isinstance(content.get("sui_image_params"), dict):
        return "SwarmUI"
    if (
        str(content.get("version", "")).startswith("Fooocus")
        or {"base_model", "sharpness"} <= content.keys()
    ):
        return "Fooocus"
    names = {name.lower().replace(" ", "_") for name in content}
    if names & {"num_inference_steps", "use_stable_diffusion_model", "stable_diffusion_model"}:
        return "Easy Diffusion"
    return None


def _flat(
    program: str, content: Mapping[str, Any], names: Mapping[str, str] | None = None
) -> Reading:
    """Read JSON whose names, or those that ``names`` gives them, are A1111's or close to them."""
    prompts: dict[str, str] = {}
    pairs: dict[str, str] = {}
    for key, value in content.items():
        name = (names or {}).get(key, key)
        kind = re.sub(r"[\W_]", "", name).lower()
        if kind in {"prompt", "positiveprompt", "negativeprompt"} and isinstance(value, str):
            prompts.setdefault(kind, value)
        elif value is not None:  # nothing is how JSON says that a setting was not used
            pairs[name] = _plain(name, value)
    prompt = prompts.get("prompt", prompts.get("positiveprompt", ""))
    reading = read_pairs(prompt, prompts.get("negativeprompt", ""), pairs)
    return reading._replace(
        extra={**reading.extra, "Program": program},
        notes=(_MADE_BY.format(program=program), *reading.notes),
    )


def _plain(name: str, value: Any) -> str:
    if known_name(name) == "Model" and isinstance(value, dict):  # InvokeAI
        value = value.get("name") or value.get("model_name") or value
    try:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):
        return "unreadable"


def _novelai(chunks: _Chunks, objects: _Objects) -> Reading | None:
    if "novelai" not in (chunks.get("software", "") + chunks.get("source", "")).lower():
        return None
    if "comment" not in objects:
        raise BadPicture(_UNREADABLE.format(program="NovelAI"))
    content = objects["comment"]
    names = {"scale": "CFG scale", "uc": "negative_prompt"}
    if (
        "img2img" in str(content.get("request_type", "")).lower()
    ):  # "strength" stands there for others too
        names["strength"] = "Denoising strength"
    return _flat("NovelAI", {"prompt": chunks.get("description", ""), **content}, names)


def _invokeai(chunks: _Chunks, objects: _Objects) -> Reading | None:
    content = objects.get("invokeai_metadata")
    if content is None:
        return _old_invokeai(chunks, objects)
    names = {"scheduler": "Sampler"}
    if "img2img" in str(content.get("generation_mode", "")):
        names["strength"] = "Denoising strength"
    return _flat("InvokeAI", content, names)


def _old_invokeai(chunks: _Chunks, objects: _Objects) -> Reading | None:
    if "sd-metadata" in objects:
        text = {
            "sd-metadata": json.dumps(objects["sd-metadata"])
        }  # sd-parsers wants the text itself
    elif "dream" in chunks:
        text = {"Dream": chunks["dream"]}
    elif {"invokeai_metadata", "invokeai_graph", "sd-metadata"} & (chunks.keys() | objects.keys()):
        raise BadPicture(_UNREADABLE.format(program="InvokeAI"))
    else:
        return None
    samplers, others = _parsed("InvokeAI", text)
    return _flat("InvokeAI", {**others, **samplers[0]})


def _is_graph(content: Any) -> bool:
    return isinstance(content, dict) and any(
        isinstance(n, dict) and "class_type" in n for n in content.values()
    )


def _comfyui(chunks: _Chunks, objects: _Objects) -> Reading | None:
    graph = objects.get("prompt", {})
    if _is_graph(graph):
        return _graph(graph)
    # The workflow alone is a drawing of the graph: which of its values ran, it does not say.
    if "workflow" in objects or chunks.get("prompt", "").startswith("{"):
        raise BadPicture(_UNREADABLE.format(program="ComfyUI"))
    return None


def _graph(graph: Mapping[str, Any]) -> Reading:
    """Read a graph: what its first sampler takes, then whatever stands in the graph with one value only."""
    nodes = {
        k: v for k, v in graph.items() if isinstance(v, dict) and isinstance(v.get("inputs"), dict)
    }
    if len(nodes) > _MOST_NODES:
        raise BadPicture(_UNREADABLE.format(program="ComfyUI"))
    # The links of the graph that ran: the workflow beside it may be missing, or in a newer form.
    links = [
        [0, v[0], v[1], k, 0, name.upper()]
        for k, node in nodes.items()
        for name, v in _linked(node["inputs"])
    ]
    samplers, _ = _parsed("ComfyUI", {"prompt": nodes, "workflow": {"links": links}})
    values = next(
        (sampler for sampler in samplers if sampler.get("denoise", 1) == 1),
        samplers[0] if samplers else {},
    )
    notes = (
        (f"its graph has {len(samplers)} samplers, of which one is read",)
        if len(samplers) > 1
        else ()
    )
    denoise = values.pop("denoise", 1)
    if isinstance(denoise, int | float) and denoise < 1:
        values["Denoising strength"] = denoise
    reading = _flat("ComfyUI", {**values, **_single_values(nodes.values(), values)})
    return reading._replace(notes=(*reading.notes, *notes))


def _linked(inputs: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    for name, value in inputs.items():
        if (
            isinstance(value, list)
            and len(value) == 2
            and isinstance(value[0], str)
            and isinstance(value[1], int)
        ):
            yield name, value


def _single_values(nodes: Iterable[Mapping[str, Any]], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return what stands in a graph with one value only; of names such as ``lora_name``, all values."""
    values: dict[str, list[Any]] = {}
    for name, value in chain.from_iterable(node["inputs"].items() for node in nodes):
        if isinstance(value, str | int | float) and value not in values.setdefault(str(name), []):
            values[str(name)].append(value)
    taken = {known_name(name) for name, value in known.items() if value is not None}
    if not known.get("prompt"):
        values["prompt"] = values.pop("text", [])
    found: dict[str, Any] = {}
    for name, several in values.items():
        listing = ", ".join(map(str, several))
        if several and (name == "prompt" or name.startswith(("lora_name", "vae_name"))):
            found[name] = listing
        elif known_name(name) and known_name(name) not in taken and len(several) == 1:
            found[name] = several[0]
    return found


def _parsed(program: str, texts: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Let sd-parsers read; return the values of each sampler, and all others."""
    try:
        from sd_parsers.parsers import ComfyUIParser, InvokeAIParser
    except ImportError as error:
        raise BadPicture(_NEEDS.format(program=program)) from error
    try:
        info = (ComfyUIParser() if program == "ComfyUI" else InvokeAIParser()).parse(texts)
        return [_of_sampler(sampler) for sampler in info.samplers], info.metadata
    except Exception as error:  # it meets graphs it did not expect with nearly any exception
        raise BadPicture(_UNREADABLE.format(program=program)) from error


def _of_sampler(sampler: Sampler) -> dict[str, Any]:
    name, model = sampler.name, sampler.model.name if sampler.model else None
    return {
        **sampler.parameters,
        # Where a graph has a link instead of a name, the name stands elsewhere in it.
        **({"Sampler": name} if isinstance(name, str) else {}),
        **({"Model": model} if isinstance(model, str) else {}),
        "prompt": ", ".join(prompt.value for prompt in sampler.prompts),
        "negative_prompt": ", ".join(prompt.value for prompt in sampler.negative_prompts),
    }
