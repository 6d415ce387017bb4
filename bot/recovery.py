"""The files of a job whose server has forgotten it: from its row, or found by their names."""

from bot.jobs import Job
from comfy.client import ComfyClient
from comfy.graph import saved_picture, savers
from comfy.models import OutputFile
from comfy.parameters import Role

_PICTURES_MAX = 100  # of one node, that are looked for
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"  # which a server that died while it wrote left out


async def left_behind(job: Job, client: ComfyClient) -> tuple[OutputFile, ...]:
    """Everything that the job was to save, or nothing: half a result is made again.

    Error: `ServerError` if the server cannot be asked.
    """
    nodes = savers(job.request.graph)
    if nodes and set(nodes) <= {each.node_id for each in job.outputs}:
        # a node tells of its files when all of them are written
        ends = [await client.last_bytes(each, 1) for each in job.outputs]
        return () if None in ends else job.outputs
    if job.attempt > 1:  # files of several runs cannot be told apart
        return ()
    found: list[OutputFile] = []
    for node_id in nodes:
        if job.request.graph[node_id]["class_type"] != "SaveImage":
            return ()
        pictures = await _pictures(job, node_id, client)
        if len(pictures) < _expected(job):
            return ()
        found += pictures
    return tuple(found)


async def _pictures(job: Job, node_id: str, client: ComfyClient) -> list[OutputFile]:
    pictures: list[OutputFile] = []
    for number in range(1, _PICTURES_MAX + 1):
        picture = OutputFile(node_id, saved_picture(node_id, number), f"comfycord/{job.id}")
        if await client.last_bytes(picture, len(_PNG_END)) != _PNG_END:
            break
        pictures.append(picture)
    return pictures


def _expected(job: Job) -> int:
    batch = job.request.settings.get(Role.BATCH)
    return batch if isinstance(batch, int) else 1
