"""Who asks over HTTP: members with a name in config.yaml, and no account of Discord's. Pure."""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from bot.jobs import NOWHERE
from bot.requests import Author


@dataclass(frozen=True, slots=True)
class Member:
    """*user_id*: always the same for a name, and negative, as Discord's are positive."""

    name: str
    user_id: int

    @classmethod
    def named(cls, name: str) -> Self:
        digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
        return cls(name, -1 - (int.from_bytes(digest) >> 2))

    def author(self) -> Author:
        """In no server and no channel; each request is its own interaction."""
        return Author(
            interaction_id=-1 - secrets.randbits(62),
            user_id=self.user_id,
            channel_id=NOWHERE,
            guild_id=None,
        )


def member_of(authorization: str, tokens: Mapping[str, str]) -> Member | None:
    """*authorization*: the header; *tokens*: by member. All are compared, in constant time."""
    scheme, _, given = authorization.partition(" ")
    known = [
        name
        for name, token in tokens.items()
        if hmac.compare_digest(given.strip().encode(errors="replace"), token.encode())
    ]
    return Member.named(known[0]) if known and scheme.casefold() == "bearer" else None
