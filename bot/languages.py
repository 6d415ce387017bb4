"""What people read, in their language: English stands in the code, the others in `locales/`.

The catalogues are gettext's `.po` files, which every translator's tool opens. What a catalogue
lacks is said in English.
"""

import gettext
import io
from functools import cache
from pathlib import Path

import discord
from babel.messages import mofile, pofile
from discord import app_commands
from discord.enums import Locale

from comfy.phrases import Phrase

FOLDER = Path(__file__).with_name("locales")
_NEAREST = {"es-419": "es-ES", "zh-TW": "zh-CN"}  # until somebody writes their own
_TYPED = (
    app_commands.TranslationContextLocation.command_name,
    app_commands.TranslationContextLocation.group_name,
    app_commands.TranslationContextLocation.parameter_name,
)


class Language:
    """`t = language("de")`, then `t("{name} is gone.", name=name)` for a text of the code."""

    def __init__(self, catalogue: gettext.NullTranslations) -> None:
        self._catalogue = catalogue

    def __call__(self, template: str, /, **values: object) -> str:
        return self.said(Phrase(template, "", None, values))

    def many(self, one: str, many: str, number: int, /, **values: object) -> str:
        return self.said(Phrase(one, many, number, {"number": number, **values}))

    def said(self, text: str) -> str:
        """A phrase in this language; another text, such as a person's own, as it is."""
        if not isinstance(text, Phrase):
            return text
        if text.number is None:
            template = self._catalogue.gettext(text.template)
        else:
            template = self._catalogue.ngettext(text.template, text.many, text.number)
        return template.format(
            **{n: self.said(v) if isinstance(v, str) else v for n, v in text.values.items()}
        )

    def line(self, text: str) -> str:
        """A description of a command, as it stands in the code: without values."""
        return self._catalogue.gettext(text) if text else ""


@cache
def language(locale: str) -> Language:
    """By Discord's code, such as `zh-CN`: https://docs.discord.com/developers/reference#locales"""
    path = FOLDER / f"{_NEAREST.get(locale, locale)}.po"
    if locale not in {str(each) for each in Locale} or not path.exists():
        return Language(gettext.NullTranslations())
    compiled = io.BytesIO()
    with path.open("rb") as file:
        mofile.write_mo(compiled, pofile.read_po(file))
    compiled.seek(0)
    return Language(gettext.GNUTranslations(compiled))


def load() -> None:
    """Reads every catalogue once, so that nobody waits for it later."""
    for path in FOLDER.glob("*.po"):
        language(path.stem)


def language_of(interaction: discord.Interaction) -> Language:
    return language(str(interaction.locale))


class Translator(app_commands.Translator):
    """Descriptions and menus, for Discord. What people type is the same in every language, as they
    tell it each other and messages name it."""

    async def translate(
        self,
        string: app_commands.locale_str,
        locale: Locale,
        context: app_commands.TranslationContextTypes,
    ) -> str | None:
        if context.location in _TYPED and not isinstance(context.data, app_commands.ContextMenu):
            return None
        said = language(str(locale)).line(string.message)
        return None if said == string.message else said
