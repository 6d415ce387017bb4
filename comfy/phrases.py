"""Sentences for people, which can be said in other languages too. Pure.

A phrase is its English text, and remembers what it was made of, so that whoever shows it can
translate it: `bot/languages.py` does.
"""

from collections.abc import Mapping
from typing import Any


class Phrase(str):
    """*template* has its values in braces; with *number*, *many* is the plural's."""

    __slots__ = ("many", "number", "template", "values")
    template: str
    many: str
    number: int | None
    values: Mapping[str, object]

    def __new__(
        cls, template: str, many: str, number: int | None, values: Mapping[str, object]
    ) -> "Phrase":
        chosen = template if number in (None, 1) else many
        phrase = super().__new__(cls, chosen.format(**values))
        phrase.template, phrase.many, phrase.number, phrase.values = template, many, number, values
        return phrase

    def to_json(self) -> dict[str, Any]:
        values = {name: written(each) for name, each in self.values.items()}
        return {"say": [self.template, self.many, self.number], "values": values}


def say(template: str, /, **values: object) -> Phrase:
    """`say("{name} is gone.", name=name)`; a brace that is meant stands twice."""
    return Phrase(template, "", None, values)


def say_count(one: str, many: str, number: int, /, **values: object) -> Phrase:
    """`say_count("{number} job", "{number} jobs", number)`."""
    return Phrase(one, many, number, {"number": number, **values})


def written(value: object) -> Any:
    """A text or a phrase as JSON; `read` makes it again."""
    if isinstance(value, Phrase):
        return value.to_json()
    return value if isinstance(value, str | int | float) else str(value)


def read(data: Any) -> Any:
    match data:
        case {"say": [str(template), str(many), number], "values": dict(values)}:
            return Phrase(template, many, number, {n: read(each) for n, each in values.items()})
    return data
