"""What somebody wants, as data that can be kept and varied. Pure."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self


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
