"""What the stand-in's routes share, and the two routes about files."""

import io
import json
import mimetypes
import uuid
from typing import Any

from aiohttp import web
from PIL import Image

from comfy.standin_store import FOLDERS, Files, Place, inside

Json = dict[str, Any]

LONGEST_NAME = 255  # bytes: what file systems allow
BROWSER_TYPES = ("text/html", "text/css", "text/javascript", "application/javascript")


def trouble() -> web.HTTPInternalServerError:
    """What a ComfyUI answers to any request it did not expect: text, never JSON."""
    text = "500 Internal Server Error\n\nServer got itself in trouble"
    return web.HTTPInternalServerError(text=text)


def refusal(kind: str, message: str, details: str) -> web.Response:
    """A refused prompt whose nodes were not looked at."""
    error = {"type": kind, "message": message, "details": details, "extra_info": {}}
    return web.json_response({"error": error, "node_errors": {}}, status=400)


def parsed(text: str) -> Any:
    """The JSON value of a text, None when it is not JSON. The content type does not matter."""
    try:
        return json.loads(text)
    except ValueError:
        return None


async def json_object(request: web.Request) -> Json:
    body = parsed(await request.text())
    if not isinstance(body, dict):
        raise trouble()
    return body


def canonical(prompt_id: Any) -> bool:
    """Whether this is a UUID in lower case with hyphens."""
    try:
        return bool(str(uuid.UUID(prompt_id)) == prompt_id)
    except (ValueError, TypeError, AttributeError):
        return False


def view(files: Files, request: web.Request) -> web.Response:
    """GET /view, with the status codes recorded in j2."""
    query = request.query
    if "filename" not in query:
        return web.Response(status=404)
    name, subfolder = query["filename"], query.get("subfolder", "")
    if not name or name.startswith("/") or ".." in name:
        return web.Response(status=400)
    asked = Place.annotated(name, query.get("type", "output"))
    if asked.type not in FOLDERS:
        return web.Response(status=400)
    if not inside(subfolder):
        return web.Response(status=403)
    place = Place(asked.filename, subfolder, asked.type)
    if place not in files:
        return web.Response(status=404)
    headers = {"Content-Disposition": f'filename="{place.filename}"'}
    if "preview" in query or "channel" in query:
        try:
            body, kind = _converted(files[place], query.get("preview"), query.get("channel"))
        except (OSError, ValueError):
            raise trouble() from None
        return web.Response(body=body, content_type=kind, headers=headers)
    kind = mimetypes.guess_type(place.filename)[0] or "application/octet-stream"
    if kind in BROWSER_TYPES:
        kind = "application/octet-stream"
        headers = {"Content-Disposition": f'attachment; filename="{place.filename}"'}
    headers["X-Content-Type-Options"] = "nosniff"
    try:
        part = request.http_range
    except ValueError:
        return web.Response(status=416)
    whole = part.start is None and part.stop is None
    return web.Response(
        status=200 if whole else 206, body=files[place][part], content_type=kind, headers=headers
    )


def _converted(data: bytes, preview: str | None, channel: str | None) -> tuple[bytes, str]:
    """A picture as `webp;50` or `jpeg` asks for, or its colours or transparency as PNG."""
    picture: Image.Image = Image.open(io.BytesIO(data))
    file = io.BytesIO()
    if preview is None:
        if channel == "a":
            alpha = picture.convert("RGBA").getchannel("A")
            picture = Image.new("RGBA", picture.size)
            picture.putalpha(alpha)
        elif channel == "rgb":
            picture = picture.convert("RGB")
        picture.save(file, "PNG")
        return file.getvalue(), "image/png"
    kind, _, quality = preview.partition(";")
    kind = kind if kind in ("webp", "jpeg") else "webp"
    percent = int(quality) if quality.isdigit() else 90
    if percent > 100:
        raise ValueError(preview)
    picture.convert("RGB").save(file, kind.upper(), quality=percent)
    return file.getvalue(), f"image/{kind}"


async def upload(files: Files, request: web.Request) -> web.Response:
    """POST /upload/image, with the status codes recorded in j1 and j3."""
    form = await request.post()
    image = form.get("image")
    folder = str(form.get("type", "input"))
    subfolder = str(form.get("subfolder", ""))
    if image is None:
        return web.Response(status=400)
    if not isinstance(image, web.FileField) or not image.filename or folder not in FOLDERS:
        raise trouble()
    if not inside(subfolder) or not inside(f"{subfolder}/{image.filename}".lstrip("/")):
        return web.Response(status=400)
    if "/" in image.filename or len(image.filename.encode()) > LONGEST_NAME:
        raise trouble()
    place = files.upload(
        Place(image.filename, subfolder, folder),
        image.file.read(),
        overwrite=form.get("overwrite") in ("true", "1"),
    )
    kept = {"name": place.filename, "subfolder": place.subfolder, "type": place.type}
    return web.json_response(kept)
