"""A smaller copy of a picture that is too large for a channel."""

import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops

from bot.copies import smaller
from tests.comfy.pictures import picture
from tests.fakes.recordings import graph_of

SIZE = (240, 180)


def noise(mode: str = "RGB") -> Image.Image:
    return Image.effect_noise(SIZE, 90).convert(mode)


def written(path: Path, kind: str = "PNG", image: Image.Image | None = None, **so: Any) -> Path:
    (image or noise()).save(path, kind, **so)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "0"


def copy_of(path: Path, limit: int) -> Image.Image:
    found = smaller(path, limit)
    assert found is not None
    assert found.stat().st_size <= limit
    assert found.parent == path.parent
    with Image.open(found, formats=["WEBP"]) as image:
        image.load()
        return image


def test_a_copy_is_lossless_if_that_fits(path: Path) -> None:
    image = noise()

    copy = copy_of(written(path, image=image), 10**6)

    assert ImageChops.difference(copy, image).getbbox() is None


def test_a_copy_is_as_good_as_fits(path: Path) -> None:
    written(path)
    lossless = smaller(path, 10**6)
    assert lossless is not None
    sizes = [lossless.stat().st_size]

    sides = []
    while (found := smaller(path, sizes[-1] - 1)) is not None:
        sizes.append(found.stat().st_size)
        with Image.open(found) as image:
            sides.append(image.size)

    assert sides == [(240, 180), (240, 180), (168, 126), (108, 81)]
    assert sizes == sorted(sizes, reverse=True)


def test_what_does_not_fit_at_all_has_no_copy(path: Path) -> None:
    assert smaller(written(path), 100) is None
    assert [each.name for each in path.parent.iterdir()] == ["0"]


@pytest.mark.parametrize("limit", [10**6, 30_000], ids=["lossless", "lossy"])
def test_a_copy_is_as_clear_as_the_picture(path: Path, limit: int) -> None:
    image = noise("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 120, 180))

    copy = copy_of(written(path, image=image), limit)

    assert copy.mode == "RGBA"
    left, right = copy.width // 4, copy.width * 3 // 4
    alpha = [copy.getpixel((x, 40))[3] for x in (left, right)]  # type: ignore[index]
    assert alpha == [0, 255]


def palette() -> Image.Image:
    image = Image.new("P", SIZE, 1)
    image.putpalette([0, 0, 255, 255, 0, 0])
    return image


@pytest.mark.parametrize(
    ("image", "options", "pixel"),
    [
        (palette(), {}, (255, 0, 0)),
        (palette(), {"transparency": 1}, (255, 0, 0, 0)),
        (Image.new("L", SIZE, 7), {}, (7, 7, 7)),
        (Image.new("1", SIZE, 1), {}, (255, 255, 255)),
        pytest.param(
            Image.new("I;16", SIZE, 0x4000), {}, (64, 64, 64),
        ),
    ],
    ids=["palette", "clear palette", "grey", "one bit", "grey of 16 bit"],
)  # fmt: skip
def test_every_kind_of_pixel_comes_through(
    path: Path, image: Image.Image, options: dict[str, Any], pixel: tuple[int, ...]
) -> None:
    found = copy_of(written(path, image=image, **options), 10**6).convert(
        "RGBA" if len(pixel) == 4 else "RGB"
    )

    assert found.getpixel((5, 5))[-1] == pixel[-1]  # type: ignore[index]
    assert len(pixel) == 4 or found.getpixel((5, 5)) == pixel


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
def test_every_still_picture_has_a_copy(path: Path, kind: str) -> None:
    assert copy_of(written(path, kind), 10**6).size == SIZE


def test_a_picture_longer_than_webp_takes_is_made_shorter(path: Path) -> None:
    copy = copy_of(written(path, image=Image.new("RGB", (20_000, 40), "red")), 10**6)

    assert copy.width == 16383


def test_the_same_picture_has_the_same_copy(path: Path) -> None:
    """A message that is sent twice is the same message."""
    written(path)
    copies = []
    for limit in (10**6, 30_000):
        for _ in range(2):
            found = smaller(path, limit)
            assert found is not None
            copies.append(found.read_bytes())

    assert copies[0] == copies[1] != copies[2] == copies[3]


def test_a_copy_tells_nothing_of_the_workflow(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0110] = "prompt:a secret"
    for kind in ("PNG", "WEBP", "JPEG"):
        written(path, kind, exif=exif, xmp=b"a secret")

        found = smaller(path, 10**6)

        assert found is not None
        assert b"a secret" not in found.read_bytes()


ANIMATED = pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"], ids=["gif", "webp", "apng"])


def animated(path: Path, kind: str, frames: int = 3, **so: Any) -> Path:
    """Each frame lasts longer than the one before it; they are shown twice."""
    moments = [100 * number for number in range(1, frames + 1)]
    more = [noise() for _ in moments[1:]]
    options: dict[str, Any] = {"duration": moments, "loop": 2} | so
    return written(path, kind, save_all=True, append_images=more, **options)


@ANIMATED
def test_the_copy_of_an_animation_moves_as_it_did(path: Path, kind: str) -> None:
    found = smaller(animated(path, kind), 10**6)

    assert found is not None
    with Image.open(found, formats=["WEBP"]) as copy:
        lasting = []
        for number in range(copy.n_frames):
            copy.seek(number)
            copy.load()
            lasting.append(copy.info["duration"])
        assert (copy.size, lasting, copy.info["loop"]) == (SIZE, [100, 200, 300], 2)


def test_the_copy_of_an_animation_is_as_good_as_fits(path: Path) -> None:
    animated(path, "PNG")
    limit, sides = 10**6, []
    while (found := smaller(path, limit)) is not None:
        assert found.stat().st_size <= limit
        limit = found.stat().st_size - 1
        with Image.open(found) as image:
            sides.append((image.size, image.n_frames))  # type: ignore[attr-defined]

    assert sides == [((240, 180), 3), ((168, 126), 3), ((120, 90), 3), ((84, 63), 3)]
    assert [each.name for each in path.parent.iterdir()] == ["0"]


@ANIMATED
def test_the_copy_of_an_animation_tells_nothing_of_the_workflow(path: Path, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0110] = "prompt:a secret"
    animated(path, kind, exif=exif, xmp=b"a secret", comment=b"a secret")

    found = smaller(path, 10**6)

    assert found is not None
    assert b"a secret" not in found.read_bytes()


def test_an_animation_is_as_clear_as_it_was(path: Path) -> None:
    clear = Image.new("RGBA", SIZE, (255, 0, 0, 0))
    written(path, "PNG", image=clear, save_all=True, append_images=[noise("RGBA")])

    assert copy_of(path, 10**6).convert("RGBA").getpixel((5, 5))[-1] == 0  # type: ignore[index]


@ANIMATED
def test_half_an_animation_has_no_copy(path: Path, kind: str) -> None:
    whole = animated(path, kind).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])

    assert smaller(path, 10**6) is None
    assert [each.name for each in path.parent.iterdir()] == ["0"]


def test_an_animation_of_too_many_pixels_has_no_copy(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.copies._MOVING_PIXELS", 240 * 180)

    assert smaller(animated(path, "GIF", frames=20), 10**6) is None


def bomb(side: int) -> bytes:
    """A PNG of a few bytes that says it is enormous."""
    whole = picture()
    head = b"IHDR" + side.to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
    return whole[:12] + head + zlib.crc32(head).to_bytes(4, "big") + whole[33:]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"a text",
        bytes(10_000),
        b"\0\0\0\x18ftypmp42" + bytes(100),
        b"\x1aE\xdf\xa3" + bytes(100),
        b"glTF\2\0\0\0" + bytes(100),
        str(graph_of("a8_modelfree")).encode(),
        picture()[:-30],
        picture("JPEG")[:200],
        bomb(50_000),
        picture("GIF")[:20],
    ],
    ids=[
        "nothing", "text", "noughts", "mp4", "webm", "glb", "graph", "half a png", "half a jpeg",
        "bomb", "half a gif",
    ],
)  # fmt: skip
def test_what_is_no_whole_picture_has_no_copy(path: Path, data: bytes) -> None:
    path.write_bytes(data)

    assert smaller(path, 10**6) is None
    assert [each.name for each in path.parent.iterdir()] == ["0"]


DAMAGED = [
    pytest.param(kind, many, id=f"{kind}-{many}")
    for kind in ("PNG", "JPEG", "WEBP", "GIF")
    for many in (1, 3)
    if kind != "JPEG" or many == 1
]


@pytest.mark.parametrize(("kind", "many"), DAMAGED)
def test_a_damaged_picture_is_never_a_fault_of_ours(path: Path, kind: str, many: int) -> None:
    images = [Image.effect_noise((24, 18), 90) for _ in range(many)]
    more: Any = {"save_all": True, "append_images": images[1:]} if many > 1 else {}
    whole = written(path, kind, image=images[0], **more).read_bytes()
    faults = set()

    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        try:
            smaller(path, 10**6)
        except Exception as error:
            faults.add(type(error).__name__)

    assert faults == set()
