"""Sentences and small forms of text that people read. Pure."""

import re
import unicodedata

import discord

from comfy.phrases import Phrase, say

# Marks above and below letters, of which no language piles up more than a few.
_MARK = r"[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
_MARKS = re.compile(f"({_MARK}{{4}}){_MARK}+")
_INVISIBLE = {"Cf", "Cc", "Cs", "Co"}  # zero-width and direction marks, controls


def neutral(text: str, limit: int = 300) -> str:
    """Somebody's words, so that they cannot ping, link, format or imitate us."""
    visible = "".join(
        " " if letter in "\r\n\t" else letter
        for letter in text
        if letter in "\r\n\t" or unicodedata.category(letter) not in _INVISIBLE
    )
    short = _MARKS.sub(r"\1", " ".join(visible.split()))
    if len(short) > limit:
        short = short[: limit - 1] + "…"
    return discord.utils.escape_mentions(re.sub(r"([\\`*_~|\[\]<>#]|^-)", r"\\\1", short))


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th."""
    suffix = (
        "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    )
    return f"{number}{suffix}"


def duration(seconds: float) -> Phrase:
    """4.2 s, 3 min 5 s, 1 h 2 min."""
    if seconds < 60:
        return say("{seconds} s", seconds=f"{seconds:.1f}")
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return say("{minutes} min {seconds} s", minutes=minutes, seconds=rest)
    return say("{hours} h {minutes} min", hours=minutes // 60, minutes=minutes % 60)


def bar(fraction: float, width: int = 12) -> str:
    filled = round(fraction * width)
    return "▰" * filled + "▱" * (width - filled)


def size(number: int) -> str:
    return f"{number / 2**20:.1f} MB"
