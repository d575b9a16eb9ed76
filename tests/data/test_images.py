"""Decoding: every mode ends as RGB, every damage as a reason; perceptual hashes."""

import hashlib
import io
import os
import struct
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg.data import images
from ovseg.data.image_reader import decode_ahead
from ovseg.data.images import ImageError, read_image
from ovseg.data.perceptual_hash import phash


def photo(height: int = 60, width: int = 80, seed: int = 0) -> np.ndarray:
    """A smooth coloured picture, so that JPEG keeps it."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    waves = np.random.default_rng(seed).uniform(0.5, 3, (3, 2))
    planes = [np.sin(a * y / height * 6) + np.cos(b * x / width * 6) for a, b in waves]
    return ((np.stack(planes, -1) + 2) * 63).astype(np.uint8)


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def reason(path: Path, **options: object) -> str:
    with pytest.raises(ImageError) as error:
        read_image(path, **options)
    assert error.value.reason in images.REASONS
    return error.value.reason


def test_png_comes_back_to_the_pixel(tmp_path: Path):
    pixels = photo()
    read = read_image(save(tmp_path / "a.png", Image.fromarray(pixels)))
    assert read.dtype == np.uint8 and read.flags.writeable
    assert np.array_equal(read, pixels)


def test_grey_palette_and_cmyk(tmp_path: Path):
    picture = Image.fromarray(photo())
    grey = read_image(save(tmp_path / "grey.png", picture.convert("L")))
    assert np.array_equal(grey[..., 0], np.asarray(picture.convert("L")))
    assert (grey[..., 0] == grey[..., 2]).all()
    palette = picture.quantize(16)
    read = read_image(save(tmp_path / "palette.gif", palette))
    assert np.array_equal(read, np.asarray(palette.convert("RGB")))
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    read = read_image(save(tmp_path / "cmyk.jpg", red, quality=95)).astype(int)
    assert read[..., 0].min() > 200 and read[..., 1:].max() < 60
    bits = Image.fromarray(np.eye(8) > 0)
    assert set(np.unique(read_image(save(tmp_path / "bits.png", bits)))) == {0, 255}


def test_transparency_lies_on_white(tmp_path: Path):
    pixels = np.zeros((1, 3, 4), dtype=np.uint8)
    pixels[0, :, 3] = [255, 0, 128]
    read = read_image(save(tmp_path / "a.png", Image.fromarray(pixels)))
    assert read[0, :, 0].tolist() == [0, 255, 127]
    grey = Image.fromarray(np.array([[10, 20]], dtype=np.uint8))
    read = read_image(save(tmp_path / "key.png", grey, transparency=20))
    assert read[0, :, 0].tolist() == [10, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int):
    pixels = np.zeros((16, 32, 3), dtype=np.uint8)
    pixels[:8, :16] = 255  # upright: white at the top left
    stored = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, 1),
        7: pixels[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(pixels, -1),
    }[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    path = save(tmp_path / "a.png", Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    assert np.array_equal(read_image(path), pixels)


def test_damaged_exif_leaves_the_pixels(tmp_path: Path):
    picture = Image.fromarray(photo())
    path = save(tmp_path / "a.jpg", picture, exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff\x00\x01")
    assert read_image(path).shape == (60, 80, 3)


def test_every_damage_has_a_reason(tmp_path: Path):
    for suffix in ("jpg", "png", "gif", "webp"):
        whole = save(tmp_path / f"whole.{suffix}", Image.fromarray(photo())).read_bytes()
        half = tmp_path / f"half.{suffix}"
        half.write_bytes(whole[: len(whole) // 2])
        assert reason(half) in ("truncated", "broken")
        (tmp_path / "few").write_bytes(whole[:6])
        assert reason(tmp_path / "few") in ("not_an_image", "truncated", "broken")
    jpeg = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(jpeg[: len(jpeg) * 2 // 3])
    assert reason(tmp_path / "cut.jpg") == "truncated"
    (tmp_path / "zero.jpg").touch()
    assert reason(tmp_path / "zero.jpg") == "zero_bytes"
    (tmp_path / "page.jpg").write_text("<html>404</html>")
    assert reason(tmp_path / "page.jpg") == "not_an_image"
    assert reason(tmp_path / "none.jpg") == "missing_file"
    assert reason(tmp_path / "whole.jpg" / "below.jpg") == "missing_file"
    assert reason(tmp_path) == "unreadable_file"
    assert reason(tmp_path / "whole.jpg", max_pixels=4799) == "too_large"
    assert read_image(tmp_path / "whole.jpg", max_pixels=4800).shape == (60, 80, 3)


def test_damaged_bytes_never_raise_anything_else(tmp_path: Path):
    """Random bytes flipped in real files: an image or an `ImageError`, nothing else."""
    generator = np.random.default_rng(0)
    outcomes = set()
    for suffix in ("jpeg", "png", "gif", "bmp", "tiff", "webp"):
        stream = io.BytesIO()
        Image.fromarray(photo(24, 32)).save(stream, suffix)
        whole = np.frombuffer(stream.getvalue(), dtype=np.uint8)
        for _ in range(60):
            damaged = whole.copy()
            places = generator.integers(0, len(whole), 8)
            damaged[places] = generator.integers(0, 256, 8)
            try:
                assert images.decode(damaged.tobytes(), max_pixels=10**6).ndim == 3
                outcomes.add("image")
            except ImageError as error:
                outcomes.add(error.reason)
    assert {"image", "broken"} <= outcomes


def test_a_bomb_is_not_unpacked(tmp_path: Path):
    """A header that promises ten thousand megapixels, the way such files are made."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    small = save(tmp_path / "a.png", Image.new("RGB", (1, 1))).read_bytes()
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:])
    assert reason(bomb) == "too_large"
    assert reason(bomb, max_pixels=2**62) == "too_large"


def test_decoding_takes_little_memory_next_to_the_pixels(tmp_path: Path):
    """A file of some kilobytes may hold any number of pixels: what they cost is bounded."""
    side = 3000
    Image.new("RGBA", (side, side), (9, 9, 9, 9)).save(tmp_path / "clear.png")
    Image.fromarray(np.full((side, side), 500, dtype=np.uint16)).save(tmp_path / "deep.png")
    code = (
        "import sys; from pathlib import Path; from ovseg.data import images;"
        "lines = lambda: Path('/proc/self/status').read_text().splitlines();"
        "peak = lambda: next(int(each.split()[1]) for each in lines() if 'VmHWM' in each) * 1024;"
        "images.STRIP_PIXELS = 2**18;"
        "before = peak(); images.read_image(Path(sys.argv[1])); print(peak() - before)"
    )
    for name in ("clear.png", "deep.png"):
        command = [sys.executable, "-c", code, str(tmp_path / name)]
        shown = subprocess.run(command, capture_output=True, text=True, check=True)
        assert 3 < int(shown.stdout) / side**2 < 10, "bytes a pixel"


def test_no_setting_allows_more_than_pillow_opens(tmp_path: Path):
    from pydantic import ValidationError

    from ovseg.config.data import ImagesConfig

    assert images.MOST_PIXELS == 2 * Image.MAX_IMAGE_PIXELS
    assert ImagesConfig(max_pixels=images.MOST_PIXELS).max_pixels == images.MOST_PIXELS
    for wrong in (0, -1, images.MOST_PIXELS + 1):
        with pytest.raises(ValidationError, match="max_pixels"):
            ImagesConfig(max_pixels=wrong)


def test_the_first_frame_counts_and_the_ending_does_not(tmp_path: Path):
    frames = [Image.fromarray(photo(seed=seed)) for seed in range(3)]
    for kind in ("png", "webp"):
        path = tmp_path / f"moving.{kind}"
        frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
        assert np.array_equal(read_image(path), photo())
        assert np.array_equal(read_image(path.rename(tmp_path / f"{kind}.jpg")), photo())


def test_formats_that_run_programs_are_not_opened(tmp_path: Path):
    path = save(tmp_path / "a.eps", Image.fromarray(photo()))
    assert reason(path) == "not_an_image"
    assert reason(path.rename(tmp_path / "a.jpg")) == "not_an_image"


def test_what_never_ends_or_fills_the_memory_is_not_read(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.jpg")
    assert reason(tmp_path / "pipe.jpg") == "unreadable_file"
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    assert reason(tmp_path / "zero.jpg") == "unreadable_file"
    with (tmp_path / "huge.jpg").open("wb") as stream:
        stream.truncate(images.MAX_BYTES + 1)  # sparse: no room on the disk
    assert reason(tmp_path / "huge.jpg") == "too_large"


def test_a_member_of_a_tar_is_an_image(tmp_path: Path):
    picture = save(tmp_path / "a.png", Image.fromarray(photo()))
    (tmp_path / "empty.png").touch()
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name in ("a.png", "empty.png"):
            tar.add(tmp_path / name, f"x/{name}")
        tar.addfile(tarfile.TarInfo("x/link.png"))
        link = tarfile.TarInfo("x/out.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
    member = tmp_path / "s.tar#x" / "a.png"
    sha256 = hashlib.sha256(picture.read_bytes()).hexdigest()
    assert np.array_equal(read_image(member, sha256=sha256), photo())
    (ahead,) = decode_ahead([(member, sha256)], workers=1)
    assert np.array_equal(ahead, photo())
    assert reason(tmp_path / "s.tar#x" / "empty.png") == "zero_bytes"
    assert reason(tmp_path / "s.tar#x" / "none.png") == "missing_file"
    assert reason(tmp_path / "s.tar#x" / "out.png") == "missing_file", "links are no images"
    assert reason(tmp_path / "gone.tar#a.png") == "missing_file"
    (tmp_path / "text.tar").write_text("no tar " * 100)
    assert reason(tmp_path / "text.tar#a.png") == "unreadable_file"
    whole = (tmp_path / "s.tar").read_bytes()
    (tmp_path / "s.tar").write_bytes(whole[: whole.index(picture.read_bytes()) + 100])
    assert reason(member) in ("truncated", "broken")


def test_changed_bytes_are_noticed(tmp_path: Path):
    path = save(tmp_path / "a.png", Image.fromarray(photo()))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_image(path, sha256=sha256).shape == (60, 80, 3)
    save(path, Image.fromarray(photo(seed=1)))
    assert reason(path, sha256=sha256) == "changed"


# --------------------------------------------------------------------------------------
# Perceptual hash


def distance(one: int, other: int) -> int:
    return (one ^ other).bit_count()


def test_looking_alike_is_hashing_alike():
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (6, 8, 3)).astype(np.uint8) for _ in range(6)]
    large = [Image.fromarray(p).resize((640, 480), Image.Resampling.BICUBIC) for p in pictures]
    hashes = [phash(np.asarray(picture)) for picture in large]
    assert all(0 <= value < 2**64 for value in hashes)
    for picture, value in zip(large, hashes, strict=True):
        small = np.asarray(picture.resize((200, 150)))
        bright = np.clip(np.asarray(picture).astype(int) + 6, 0, 255).astype(np.uint8)
        assert distance(phash(small), value) <= 6
        assert distance(phash(bright), value) <= 6
    apart = [distance(a, b) for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(apart) > 16


def test_the_hash_is_the_cosine_transform_of_32_by_32_cells():
    _, x = np.mgrid[0:64, 0:96]
    wave = 128 + 100 * np.cos(np.pi * 3 * (2 * x + 1) / (2 * 96))  # the basis vector (0, 3)
    value = phash(np.repeat(wave.astype(np.uint8)[..., None], 3, axis=2))
    bits = np.array(list(f"{value:064b}"), dtype=int).reshape(8, 8)
    assert bits[0, 3] == 1 and bits[0, 0] == 1
    assert distance(value, phash(np.repeat(wave.astype(np.uint8).T[..., None], 3, axis=2))) >= 2


def test_tiny_and_flat_images_hash():
    assert phash(np.zeros((1, 1, 3), dtype=np.uint8)) == 0
    flat = [phash(np.full((h, w, 3), 77, dtype=np.uint8)) for h, w in ((5, 7), (300, 200))]
    assert flat[0] == flat[1]
