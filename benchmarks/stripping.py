"""Taking the workflow out of a picture, beside writing the picture anew as other bots do.

    uv run python -m benchmarks.stripping [--side 2048] [--rounds 20]

The picture is noise, the worst case: 12 MB at 2048 x 2048, with 100 KB of workflow. Pixels are
compared.
"""

import io
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
from PIL import Image, PngImagePlugin

from bot.metadata import strip


def picture(side: int) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", json.dumps({"secret": "x" * 60_000}))
    info.add_text("workflow", json.dumps({"nodes": ["y" * 40_000]}))
    bands = [Image.effect_noise((side, side), 100) for _ in range(3)]
    written = io.BytesIO()
    Image.merge("RGB", bands).save(written, "PNG", pnginfo=info, compress_level=1)
    return written.getvalue()


def written_anew(path: Path) -> None:
    with Image.open(path) as opened:
        Image.frombytes(opened.mode, opened.size, opened.tobytes()).save(path, "PNG")


def pixels(path: Path) -> bytes:
    with Image.open(path) as opened:
        assert not opened.info.get("prompt")
        return opened.tobytes()


def measure(way: Callable[[Path], None], original: Path, rounds: int) -> list[float]:
    """Milliseconds of each round, on a fresh copy that is in the disk's cache."""
    taken = []
    for _ in range(rounds):
        copy = original.with_name("copy.png")
        shutil.copyfile(original, copy)
        begun = time.perf_counter()
        way(copy)
        taken.append((time.perf_counter() - begun) * 1000)
    with Image.open(original) as opened:
        assert pixels(copy) == opened.tobytes()
    return taken


@click.command()
@click.option("--side", default=2048)
@click.option("--rounds", default=20)
def main(side: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        original = Path(folder) / "original.png"
        original.write_bytes(picture(side))
        print(f"{side} x {side}, {original.stat().st_size / 2**20:.1f} MB, {rounds} rounds")
        print(f"{'way':<14}{'median ms':>10}{'longest ms':>12}")
        ways = (("stripped", strip, rounds), ("written anew", written_anew, min(rounds, 3)))
        for name, way, times in ways:
            taken = measure(way, original, times)
            print(f"{name:<14}{statistics.median(taken):>10.1f}{max(taken):>12.1f}")


if __name__ == "__main__":
    main()
