"""What stands on the axes of a sweep: values of settings, and ways to vary a text.

The one decision: **an axis is a list of labelled changes, and changes are applied one axis after the other.** So a text can
be varied on two axes at once (red to blue on one, car to boat on the other), and a label is as short as what differs.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Final

from sdkit.errors import InvalidSettings
from sdkit.settings import Settings

__all__ = ["Axis", "PromptMatrix", "SearchReplace", "Wildcards", "axis"]

Option = tuple[str, Callable[[str], str]]  # a label, and what becomes of the text

_FIELDS: Final = tuple(f.name for f in fields(Settings))
_TEXTS: Final = ("prompt", "negative_prompt")
_MOST_PHRASES: Final = 10  # 1024 subsets


@dataclass(frozen=True)
class SearchReplace:
    """Prompt search and replace ("S/R"): the text as it is, then with one part exchanged for others.

    Parameters
    ----------
    search
        What to look for; it must be in the text.
    replacements
        What to put there instead, one option each, after the unchanged text.

    Examples
    --------
    >>> colours = sdkit.SearchReplace("red", ["blue", "green"])
    >>> [edit("a red car") for _, edit in colours.options()]
    ['a red car', 'a blue car', 'a green car']
    >>> sdkit.sweep(pipe, "a red car", x={"prompt": colours}, steps=4)
    <Sweep of 3 cells: ...>
    """

    search: str
    replacements: Sequence[str]

    def options(self) -> list[Option]:
        """Label and change of each option."""
        if not self.search or isinstance(self.replacements, str) or not self.replacements:
            raise InvalidSettings(
                "SearchReplace needs a text to look for and a list of replacements, such as ['blue']."
            )
        return [(word, self._edit(word)) for word in (self.search, *self.replacements)]

    def _edit(self, word: str) -> Callable[[str], str]:
        def edit(text: str) -> str:
            if self.search not in text:
                raise InvalidSettings(
                    f"{self.search!r} is not in {text!r}, so it cannot be replaced there."
                )
            return text.replace(self.search, word)

        return edit


@dataclass(frozen=True)
class PromptMatrix:
    """Every subset of some optional phrases, added to the text: 2 phrases give 4 options, 3 give 8.

    Parameters
    ----------
    phrases
        1 to 10 phrases.
    joiner
        What stands between the text and each phrase.

    Examples
    --------
    >>> phrases = sdkit.PromptMatrix(["at night", "watercolor"])
    >>> [edit("a cat") for _, edit in phrases.options()]
    ['a cat', 'a cat, at night', 'a cat, watercolor', 'a cat, at night, watercolor']
    """

    phrases: Sequence[str]
    joiner: str = ", "

    def options(self) -> list[Option]:
        """Label and change of each option."""
        if isinstance(self.phrases, str) or not 1 <= len(self.phrases) <= _MOST_PHRASES:
            raise InvalidSettings(
                f"PromptMatrix needs a list of 1 to {_MOST_PHRASES} phrases, such as ['at night']."
            )
        subsets = [
            [p for n, p in enumerate(self.phrases) if bits >> n & 1]
            for bits in range(2 ** len(self.phrases))
        ]
        return [(" + ".join(some) or "alone", partial(self._with, some)) for some in subsets]

    def _with(self, phrases: list[str], text: str) -> str:
        return self.joiner.join([text, *phrases])


class Wildcards:
    """A text with gaps, filled with every combination from lists of words.

    Parameters
    ----------
    template
        Text with names in braces.
    **words
        A list for each name.

    Examples
    --------
    >>> animals = sdkit.Wildcards("a {animal} on a {place}", animal=["cat", "fox"], place=["beach"])
    >>> [edit("") for _, edit in animals.options()]
    ['a cat on a beach', 'a fox on a beach']
    """

    def __init__(self, template: str, **words: Sequence[str]) -> None:
        names = list(dict.fromkeys(re.findall(r"\{(\w+)\}", template)))
        if (
            set(names) != set(words)
            or not names
            or any(isinstance(w, str) or not w for w in words.values())
        ):
            given = ", ".join(words) or "nothing"
            raise InvalidSettings(
                f"The template {template!r} has the gaps {', '.join(names) or 'none'} and lists for {given}; give one list of words for each gap."
            )
        self.template, self.names, self.words = template, names, words

    def options(self) -> list[Option]:
        """Label and change of each option."""
        return [
            self._option(chosen)
            for chosen in itertools.product(*(self.words[n] for n in self.names))
        ]

    def _option(self, chosen: tuple[str, ...]) -> Option:
        fill = dict(zip(self.names, chosen, strict=True))
        text = re.sub(r"\{(\w+)\}", lambda gap: fill[gap[1]], self.template)
        return ", ".join(chosen), lambda _: text


@dataclass(frozen=True)
class Axis:
    """One axis of a sweep: its title, and a label and changes for each option.

    Parameters
    ----------
    title
        What varies, in words; empty for an axis that is not used.
    labels
        One for each option.
    changes
        For each option the fields of `Settings` and their values, or functions of the text that is there.
    """

    title: str
    labels: tuple[str, ...]
    changes: tuple[tuple[tuple[str, Any], ...], ...]

    def __len__(self) -> int:
        """Count the options."""
        return len(self.labels)

    def apply(self, index: int, settings: Settings) -> Settings:
        """Change settings by one option."""
        for field, value in self.changes[index]:
            settings = settings.replace(
                **{field: value(getattr(settings, field)) if callable(value) else value}
            )
        return settings


def axis(name: str, given: Mapping[str, Any] | None) -> Axis:
    """Read what a caller put on an axis.

    Parameters
    ----------
    name
        ``"x"``, ``"y"`` or ``"z"``, for messages.
    given
        Fields of `Settings`, each with a list of values (or, for texts, a `SearchReplace`, `PromptMatrix` or
        `Wildcards`); several fields change together and need lists of one length. None is an axis of one option.

    Raises
    ------
    InvalidSettings
        For an unknown field, an empty list, or lists of different lengths.
    """
    if given is None:
        return Axis("", ("",), ((),))
    if not isinstance(given, Mapping) or not given:
        raise InvalidSettings(
            f'{name} is {given!r}; give a dictionary such as {{"guidance_scale": [2, 4, 8]}}.'
        )
    columns = [_column(name, field, values) for field, values in given.items()]
    if len({len(c) for c in columns}) > 1:
        told = ", ".join(f"{field} has {len(c)}" for field, c in zip(given, columns, strict=True))
        raise InvalidSettings(
            f"Fields on one axis change together, and on {name} {told}; give lists of one length."
        )
    options = list(zip(*columns, strict=True))
    return Axis(
        title=", ".join(field.replace("_", " ") for field in given),
        labels=tuple(", ".join(label for label, _ in option) for option in options),
        changes=tuple(
            tuple((f, value) for f, (_, value) in zip(given, option, strict=True))
            for option in options
        ),
    )


def _column(name: str, field: str, values: Any) -> list[tuple[str, Any]]:
    """Label and value of each option of one field."""
    if field not in _FIELDS:
        Settings().replace(**{field: None})  # names the nearest one
    if isinstance(values, (SearchReplace, PromptMatrix, Wildcards)):
        if field not in _TEXTS:
            raise InvalidSettings(
                f"{field} on {name} is no text; {type(values).__name__} varies {' or '.join(_TEXTS)}."
            )
        return list(values.options())
    if (
        isinstance(values, (str, bytes))
        or not isinstance(values, Iterable)
        or not (listed := list(values))
    ):
        raise InvalidSettings(f"{field} on {name} is {values!r}; give a list of one value or more.")
    return [(_label(v), v) for v in listed]


def _label(value: Any) -> str:
    if value is None:
        return "the model's own"
    return f"{value:g}" if isinstance(value, float) else str(value) or "(empty)"
