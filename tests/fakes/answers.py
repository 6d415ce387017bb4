"""Answers of a server that is not there: aioresponses, made to fit the installed aiohttp."""

import types
from typing import Any

import aiohttp
from aioresponses import aioresponses


class Response(aiohttp.ClientResponse):
    """What aioresponses answers with. Since 3.14 aiohttp gives every response the writer of its
    request's body, to count what was sent; aioresponses 0.7.9 does not know of it, and nothing
    was sent."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("stream_writer", types.SimpleNamespace(output_size=0))
        super().__init__(*args, **kwargs)


class Answers(aioresponses):
    """`with Answers() as answers: answers.get("http://h/queue", status=500)`: one answer to one
    request, of every session. Where no answer is left, nothing listens."""

    def add(self, *args: Any, **kwargs: Any) -> None:
        super().add(*args, response_class=Response, **kwargs)

    @property
    def authorizations(self) -> list[str | None]:
        """The credentials that came with each request."""
        calls = [call for each in self.requests.values() for call in each]
        return [call.kwargs["headers"].get("Authorization") for call in calls]
