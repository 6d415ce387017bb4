"""A file that carries a workflow → what it holds: API format, the editor's format, or both in a
picture. Pure, and slow enough for a thread.

ComfyUI writes into PNG text chunks `prompt` (API format) and `workflow` (the editor's), and into
the EXIF texts of WebP, which other nodes do for JPEG too, as `prompt:{…}` and `workflow:{…}`.
"""

import contextlib
import io
import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from PIL import Image

from comfy.convert import convert
from comfy.editor import Json
from comfy.errors import WorkflowFileError
from comfy.graph import Graph, Link, check_graph, links
from comfy.phrases import Phrase, say

JSON_MAX = 2 * 2**20  # bytes; the largest official template has a tenth of it
_DEPTH_MAX = 64
_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF")
_FORMATS = ("PNG", "WEBP", "JPEG")
_DISAGREE = say("The picture carries two versions that differ; the one that really ran was taken.")
_EXPORT = say("Export it again in ComfyUI with Workflow > Export.")


class Format(StrEnum):
    API = "api"
    EDITOR = "editor"
    PICTURE = "picture"


@dataclass(frozen=True, slots=True)
class WorkflowFile:
    """At least one of *graph* (API format, checked) and *editor* (the editor's JSON) is there."""

    format: Format
    graph: Graph | None = None
    editor: Json | None = None

    @property
    def needs_server(self) -> bool:
        """Only a server's `/object_info` says which of the editor's values is which input's."""
        return self.graph is None


def read(data: bytes) -> WorkflowFile:
    """`WorkflowFileError` says what is wrong with the file and what to do."""
    if data.startswith(_SIGNATURES):
        return _read_picture(data)
    document = parse_json(data)
    if _is_editor(document):
        return WorkflowFile(Format.EDITOR, editor=document)
    return WorkflowFile(Format.API, check_graph(document))


def to_graph(file: WorkflowFile, object_info: Mapping[str, Json]) -> tuple[Graph, str]:
    """The API graph, and a note if there is a doubt. *object_info* is a server's raw answer.

    What a picture's `prompt` says has really run, so it comes before its `workflow`.
    """
    if file.graph is None:
        assert file.editor is not None
        return check_graph(convert(file.editor, object_info)), ""
    if file.editor is not None and object_info:
        with contextlib.suppress(WorkflowFileError):
            if _shape(convert(file.editor, object_info)) != _shape(file.graph):
                return file.graph, _DISAGREE
    return file.graph, ""


def parse_json(data: bytes | str) -> Any:
    """JSON without what would be lost or misread: twin keys, more than 64 levels."""
    if len(data) > JSON_MAX:
        raise WorkflowFileError(
            say("is larger than {number} MB, which no workflow is.", number=JSON_MAX // 2**20)
        )
    try:
        # people's editors also write UTF-16 and marks of byte order
        text = data if isinstance(data, str) else data.decode(json.detect_encoding(data))
        document = json.loads(text, object_pairs_hook=_without_twins)
    except UnicodeDecodeError as error:
        raise WorkflowFileError(
            say("is neither text nor a PNG, WebP or JPEG. {remedy}", remedy=_EXPORT)
        ) from error
    except json.JSONDecodeError as error:
        raise WorkflowFileError(_what_is_wrong(error)) from error
    except RecursionError as error:
        raise WorkflowFileError(_too_deep()) from error
    except ValueError as error:  # a number of thousands of digits
        raise WorkflowFileError(
            say("holds a number that is too long. {remedy}", remedy=_EXPORT)
        ) from error
    if not _is_shallow(document):
        raise WorkflowFileError(_too_deep())
    try:  # `"\ud83d"` is half a letter: no file and no server takes it
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise WorkflowFileError(say("holds a broken letter. {remedy}", remedy=_EXPORT)) from error
    return document


def _what_is_wrong(error: json.JSONDecodeError) -> Phrase:
    if not error.doc.strip():
        return say("is empty.")
    line = error.lineno
    if error.msg.startswith("Extra data"):
        return say("goes on after its end, at line {line}. {remedy}", line=line, remedy=_EXPORT)
    ends_early = error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated")
    if ends_early and error.doc.lstrip()[:1] in "{[":
        return say("ends too early: a part of it is missing. Download or save it again.")
    return say("is not JSON (line {line}). {remedy}", line=line, remedy=_EXPORT)


def _too_deep() -> Phrase:
    return say("nests deeper than {number} levels, which no workflow does.", number=_DEPTH_MAX)


def _without_twins(pairs: list[tuple[str, Any]]) -> Json:
    result: Json = {}
    for name, value in pairs:
        if name in result:
            raise WorkflowFileError(
                say(
                    "has {name} twice in one object, and one of the two would be lost.",
                    name=repr(name[:60]),
                )
            )
        result[name] = value
    return result


def _is_shallow(document: Any) -> bool:
    level = [document]
    for _ in range(_DEPTH_MAX + 1):
        holders = [each for each in level if isinstance(each, dict | list)]
        level = [v for h in holders for v in (h.values() if isinstance(h, dict) else h)]
        if not level:
            return True
    return False


def _is_editor(document: Any) -> bool:
    return isinstance(document, dict) and isinstance(document.get("nodes"), list)


# Pictures


def _read_picture(data: bytes) -> WorkflowFile:
    texts = _embedded(data)
    if not texts:
        raise WorkflowFileError(
            say(
                "is a picture without a workflow in it. Discord and many sites remove it from "
                "pictures: take the file that ComfyUI itself saved."
            )
        )
    graph = editor = None
    problem = say("has no nodes.")
    for name, text in texts.items():
        try:
            document = parse_json(text)
            if name == "prompt":
                graph = check_graph(document)
            elif _is_editor(document):
                editor = document
        except WorkflowFileError as error:
            problem = error.args[0]
    if graph is None and editor is None:
        raise WorkflowFileError(
            say("is a picture whose workflow cannot be used: it {problem}", problem=problem)
        )
    return WorkflowFile(Format.PICTURE, graph, editor)


def _embedded(data: bytes) -> dict[str, str]:
    """`prompt` and `workflow` as text. Only headers are read; no pixel is decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
                found = {k: v for k, v in picture.info.items() if isinstance(v, str)}
                exif = Image.Exif()  # `getexif` would decode a PNG that has none
                exif.load(picture.info.get("exif") or b"")
                tags = [str(each) for each in exif.values() if isinstance(each, str)]
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # ValueError: a compressed text that unfolds into more than Pillow's 1 MiB
        raise WorkflowFileError(say("is a picture that cannot be read. Save it again.")) from error
    texts: dict[str, str] = {n: found[n] for n in ("prompt", "workflow") if n in found}
    for each in tags:
        if named := re.match(r"(prompt|workflow):\s*(?=\{)", each, re.IGNORECASE):
            texts.setdefault(named[1].lower(), each[named.end() :].rstrip("\x00"))
    return texts


def _shape(graph: Graph) -> dict[str, tuple[str, dict[str, Link]]]:
    """Classes and links. Values may differ: a seed moves on after every run."""
    return {key: (node["class_type"], dict(links(graph, key))) for key, node in graph.items()}
