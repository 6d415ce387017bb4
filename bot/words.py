"""Words that may not be asked for, however they are spelled. Pure."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

_BETWEEN = r"[\W_]*"  # letters set apart by spaces, dots or signs


def holds_any(words: Sequence[str], texts: Iterable[str]) -> bool:
    pattern = _pattern(tuple(words))
    return pattern is not None and any(pattern.search(_plain(each)) for each in texts)


@lru_cache(maxsize=8)
def _pattern(words: tuple[str, ...]) -> re.Pattern[str] | None:
    spelled = [_BETWEEN.join(re.escape(letter) for letter in _plain(each)) for each in words]
    if not any(spelled):
        return None
    # Whole words only: a name that holds one by chance is none.
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(each for each in spelled if each)})(?![^\W_])")


def _plain(text: str) -> str:
    """Without case, width, accents and what cannot be seen."""
    split = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    hidden = ("Mn", "Cf", "Cc")
    return "".join(
        " " if each in "\r\n\t" else each
        for each in split
        if each in "\r\n\t" or unicodedata.category(each) not in hidden
    )
