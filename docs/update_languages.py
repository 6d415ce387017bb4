"""Brings the catalogues in `bot/locales/` up to date with the texts in the code.

`uv run python docs/update_languages.py` adds what is new, untranslated, and takes away what is no
longer said. `uv run python docs/update_languages.py de` begins a new language. Then translate the
`.po` files with any gettext editor.
"""

import ast
import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po
from discord import AppCommandType, app_commands

from bot.app import COGS, Comfycord
from bot.config import Config, Secrets
from bot.languages import FOLDER

ROOT = Path(__file__).parents[1]


def texts_in_code() -> Catalog:
    """Every text that people read in Discord."""
    found = Catalog(charset="utf-8", fuzzy=False)
    for package in ("bot", "cogs", "comfy"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for text in _said(ast.parse(path.read_text("utf-8"))):
                found.add(text)
    for texts in asyncio.run(command_texts()):
        for text in sorted(texts):
            found.add(text)
    return found


def _said(tree: ast.AST) -> Iterator[str | tuple[str, str]]:
    """What is given to `say`, `say_count`, `t`, `t.many` and `language(…)` as a literal.

    Babel's own extraction does not look into f-strings, and trips over calls in calls.
    """
    for call in (each for each in ast.walk(tree) if isinstance(each, ast.Call)):
        name = getattr(call.func, "id", None) or getattr(call.func, "attr", None)
        many = name in ("say_count", "many")
        if many or name in ("say", "t") or isinstance(call.func, ast.Call):
            texts = [e.value for e in call.args[: 1 + many] if isinstance(e, ast.Constant)]
            match texts:
                case [str(one), str(more)]:
                    yield one, more
                case [str(text)]:
                    yield text


async def command_texts() -> tuple[set[str], set[str]]:
    """Descriptions, and names of menus: Discord allows them 100 and 32 letters."""
    bot = Comfycord(Config(), Secrets())
    for cog in COGS:
        await bot.load_extension(cog)
    described = {each.description for each in bot.tree.walk_commands()}
    for each in bot.tree.walk_commands():
        if isinstance(each, app_commands.Command):
            described |= {str(option.description) for option in each.parameters}
            described |= {choice.name for option in each.parameters for choice in option.choices}
    kinds = (AppCommandType.message, AppCommandType.user)
    return described, {menu.name for kind in kinds for menu in bot.tree.walk_commands(type=kind)}


def catalogue(locale: str) -> Catalog:
    path = FOLDER / f"{locale}.po"
    if not path.exists():
        return Catalog(
            locale=locale.replace("-", "_"),
            header_comment=f"# Comfycord's texts, {locale}. See docs/update_languages.py.",
            project="Comfycord",
            version="1",
            last_translator="the maintainers",
            language_team="the maintainers",
            msgid_bugs_address="the maintainers",
            fuzzy=False,
        )
    with path.open("rb") as file:
        return read_po(file)


def main() -> None:
    texts = texts_in_code()
    for locale in sorted({*sys.argv[1:], *(path.stem for path in FOLDER.glob("*.po"))}):
        kept = catalogue(locale)
        texts.creation_date = kept.creation_date  # else every run would be a change
        kept.update(texts, no_fuzzy_matching=True)
        kept.obsolete.clear()
        for each in kept:
            each.flags.discard("fuzzy")  # a guess would be skipped without a word
        with (FOLDER / f"{locale}.po").open("wb") as file:
            write_po(file, kept, width=100, no_location=True, omit_header=False)
        missing = sum(not each.string or each.string == ("",) * 2 for each in kept if each.id)
        print(f"{locale}: {len(kept)} texts, {missing} to translate")


if __name__ == "__main__":
    main()
