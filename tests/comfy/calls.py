"""The client's requests by their name: how each asks for what, and the call that does it."""

from collections.abc import Awaitable, Callable
from typing import Any

from comfy.client import ComfyClient

Call = Callable[[ComfyClient], Awaitable[Any]]

ID = "0c9f0b3e-5a43-4c5c-8f7e-2f6f4d4f8a11"
CALLS: dict[str, tuple[str, str, Call]] = {
    "system_stats": ("GET", "/system_stats", lambda client: client.system_stats()),
    "object_info": ("GET", "/object_info", lambda client: client.object_info()),
    "queue_prompt": ("POST", "/prompt", lambda client: client.queue_prompt({}, ID, "me")),
    "queue": ("GET", "/queue", lambda client: client.queue()),
    "history": ("GET", f"/history/{ID}", lambda client: client.history(ID)),
    "delete_queued": ("POST", "/queue", lambda client: client.delete_queued(ID)),
    "interrupt": ("POST", "/interrupt", lambda client: client.interrupt(ID)),
}
READS = {name: each for name, each in CALLS.items() if each[0] == "GET"}
