"""What somebody wants, as data that can be kept and varied. Pure."""

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from bot.errors import UserError
from comfy.graph import InputRef
from comfy.parameters import Parameter, Role
from comfy.phrases import say

# `{a|b}`; a brace behind a backslash, or without a bar inside, is a letter of the prompt.
_CHOICE = re.compile(r"(?<!\\)\{([^{}]*\|[^{}]*)(?<!\\)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """*values* by parameter name; *files*: parameter name → name of a kept upload.

    *relation* says what this is to the job *parent*: `variation`, `edit`, `again` and so on.
    """

    workflow: str = ""
    prompt: str | None = None
    node: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    settings: str | None = None
    overrides: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    private: bool = False
    parent: str | None = None
    relation: str = ""

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value not in (None, "", {})}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(**data)

    def setting(self, parameter: Parameter, value: Any) -> "Wish":
        """With *value* for *parameter*, whatever was said of it before; None: nothing is said."""
        values = {name: each for name, each in self.values.items() if name != parameter.name}
        if value is not None:
            values[parameter.name] = value
        overrides = _without(self.overrides, parameter.targets) if self.overrides else None
        return replace(self, values=values, overrides=overrides)

    def based_on(self, preset: "Wish") -> "Wish":
        """What this leaves open is as in *preset*. Error: `UserError` of `parse_settings`."""
        return replace(
            self,
            workflow=self.workflow or preset.workflow,
            values={**preset.values, **parse_settings(self.settings), **self.values},
            settings=None,
            overrides=self.overrides or preset.overrides,
        )

    def as_preset(self, parameters: Iterable[Parameter], settings: Mapping[str, Any]) -> "Wish":
        """What was set, by name: no words and files, and every time another seed.

        *settings*: the values that were used, of which `overrides` named some by their nodes.
        """
        wish = Wish(workflow=self.workflow, values=self.values, overrides=self.overrides)
        for each in parameters:
            without = wish.setting(each, None)
            if each.role in (Role.TEXT, Role.SEED) or without == wish:
                wish = without
            else:
                wish = wish.setting(each, settings.get(each.name))
        return wish


def parse_settings(text: str | None) -> dict[str, str]:
    """`name=value …`; a value with spaces stands in double quotes."""
    result: dict[str, str] = {}
    for word in _words(text or ""):
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise UserError(
                say('`settings` looks like `steps=20 sampler=euler`, with "…" for spaces.')
            )
        result[name] = value
    return result


def _words(text: str) -> list[str]:
    words, word, quoted = [], "", False
    for letter in text + " ":
        if letter == '"':
            quoted = not quoted
        elif letter.isspace() and not quoted:
            if word:
                words.append(word)
            word = ""
        else:
            word += letter
    if quoted:
        raise UserError(say('`settings` has a `"` that is never closed.'))
    return words


def permuted(prompt: str) -> Iterator[str]:
    """`a {red|blue} cat` → one prompt for each choice, the last braces first; several multiply."""
    parts = _CHOICE.split(prompt)
    choices = [each.split("|") if n % 2 else [each] for n, each in enumerate(parts)]
    for made in itertools.product(*choices):
        yield re.sub(r"\\([{}])", r"\1", "".join(made))


def _without(overrides: str, refs: Iterable[InputRef]) -> str | None:
    """The same JSON, which was checked when it was asked for, without these inputs."""
    gone = {(ref.node_id, ref.name) for ref in refs}
    left = {
        node_id: {"inputs": inputs}
        for node_id, body in json.loads(overrides).items()
        if (inputs := {n: v for n, v in body["inputs"].items() if (node_id, n) not in gone})
    }
    return json.dumps(left, ensure_ascii=False) if left else None
