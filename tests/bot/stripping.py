"""What the tests of stripped metadata share."""

import json
from pathlib import Path

from bot.metadata import strip

SECRET = b"a secret prompt"
PROMPT = json.dumps({"6": {"inputs": {"text": SECRET.decode()}, "class_type": "CLIPTextEncode"}})


def stripped(path: Path, data: bytes) -> bytes:
    """What is left of *data*, and no other file beside it."""
    path.write_bytes(data)
    strip(path)
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    return path.read_bytes()
