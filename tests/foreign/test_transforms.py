"""The model's input equals that of torchvision's, timm's and Hugging Face's own transforms.

Needs torchvision, timm and transformers, which requirements.txt beside this file names. Where a library works
on Pillow's images the inputs may differ by rounding alone: by 1e-5 at most.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from service.files_beside import read_beside
from service.images import decode_whole
from service.model_files import ModelFiles
from service.picture_input import Told, preprocessing_for
from service.preprocess import prepare
from service.preprocessing import Preprocessing
from service.tensors import TensorSpec

torch = pytest.importorskip("torch")
try:
    import torchvision  # noqa: F401 - tried alone
except ModuleNotFoundError:
    pytest.skip("torchvision is not installed", allow_module_level=True)
except RuntimeError:  # one built for another torch lacks its compiled operators, which pictures don't need
    for operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{operator}", "(Tensor a, Tensor b, float c) -> Tensor")
presets = pytest.importorskip("torchvision.transforms._presets")
transforms = pytest.importorskip("torchvision.transforms")
timm_data = pytest.importorskip("timm.data")
transformers = pytest.importorskip("transformers")

MOST = 1e-5
ROOT = Path(__file__).parents[2]
SIZES = [(1, 1), (5, 7), (31, 224), (223, 301), (224, 224), (256, 256), (640, 427), (1023, 769), (3000, 2001)]


def gradient(width: int, height: int) -> Image.Image:
    """Draw a picture with slopes, edges and noise."""
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(width * height).integers(0, 60, (height, width))
    bands = (
        255 * x // max(1, width - 1),
        255 * y // max(1, height - 1),
        120 * ((x // 7 + y // 5) % 2) + noise,
    )
    return Image.fromarray(np.stack(bands, axis=2).astype(np.uint8))


def encoded(image: Image.Image, format_: str = "PNG", **options: Any) -> bytes:  # noqa: ANN401 - as Pillow's
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def pictures() -> Iterator[tuple[str, bytes]]:
    """Name and give the bytes of pictures of many sizes and modes."""
    for path in sorted((ROOT / "samples").rglob("*.*")):
        if path.suffix in (".png", ".jpg", ".webp"):
            yield path.name, path.read_bytes()
    for size in SIZES:
        yield f"{size}", encoded(gradient(*size))
    color = gradient(317, 211)
    clear = color.copy()
    clear.putalpha(color.getchannel("R"))
    yield "RGBA", encoded(clear)
    yield "LA", encoded(clear.convert("LA"))
    yield "L", encoded(color.convert("L"))
    yield "1", encoded(color.convert("1"))
    yield "P", encoded(color.quantize(64))
    yield "P with transparency", encoded(clear.quantize(32))
    yield "JPEG", encoded(color, "JPEG", quality=90)
    yield "large JPEG", encoded(gradient(2400, 1500), "JPEG", quality=80)
    yield "CMYK", encoded(color.convert("CMYK"), "JPEG", quality=95)
    yield "WebP", encoded(color, "WEBP", quality=80)
    for turn in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        yield f"orientation {turn}", encoded(color, "JPEG", exif=exif)


PICTURES = dict(pictures())


def opened(data: bytes) -> Image.Image:
    """Open a picture as the libraries' users do, upright."""
    return ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")


def ours(keys: Preprocessing, data: bytes, side: int | None = None) -> np.ndarray:
    spec = TensorSpec("pixels", np.dtype(np.float32), (None, 3, side, side))
    return prepare(decode_whole(data), preprocessing_for(spec, Told(keys, "config.toml")))


def compare(
    name: str, keys: Preprocessing, theirs: Callable[[Image.Image], Any], side: int | None = None
) -> None:
    """Compare all pictures, and print the largest difference."""
    differences = {
        picture: float(np.abs(ours(keys, data, side) - np.asarray(theirs(opened(data)))).max())
        for picture, data in PICTURES.items()
    }
    worst = max(differences, key=lambda picture: differences[picture])
    print(f"{name}: {differences[worst]:.2e} ({worst})")  # noqa: T201 - what the docs tell
    assert differences[worst] <= MOST, f"{name}: {worst} differs by {differences[worst]}"


@pytest.mark.parametrize(
    ("side", "options"),
    [
        (224, {}),
        (224, {"resize_size": 232}),
        (299, {"resize_size": 342}),
        (288, {"resize_size": 320, "interpolation": "bicubic"}),
        (384, {"resize_size": 384, "interpolation": "bicubic"}),
        (97, {"resize_size": 111, "interpolation": "nearest"}),
        (300, {"resize_size": 200, "interpolation": "lanczos"}),
    ],
)
def test_torchvision(side: int, options: Mapping[str, Any]) -> None:
    mode = transforms.InterpolationMode(options.get("interpolation", "bilinear"))
    size = options.get("resize_size", 256)
    theirs = presets.ImageClassification(crop_size=side, resize_size=size, interpolation=mode)
    keys = Preprocessing.model_validate({"preset": "torchvision", **options})
    compare(f"torchvision {side} {dict(options)}", keys, theirs, side)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize(
    ("size", "crop_pct"), [((224, 224), 0.875), ((240, 240), 0.95), ((96, 160), 0.9), ((224, 224), 1.0)]
)
def test_timm(
    tmp_path: Path, interpolation: str, crop_mode: str, size: tuple[int, int], crop_pct: float
) -> None:
    told = {
        "input_size": [3, *size],
        "interpolation": interpolation,
        "crop_pct": crop_pct,
        "crop_mode": crop_mode,
        "mean": [0.48, 0.46, 0.41],
        "std": [0.23, 0.22, 0.225],
    }
    theirs = timm_data.create_transform(**{**told, "input_size": (3, *size)})
    compare(
        f"timm {crop_mode} {interpolation} {size} {crop_pct}",
        beside(tmp_path, "config", {"pretrained_cfg": told}),
        theirs,
    )


PROCESSORS = [
    ("ViT", {}),
    ("ViT", {"size": {"height": 384, "width": 384}, "resample": 3}),
    ("DeiT", {}),
    ("Beit", {}),
    ("Beit", {"size": {"height": 250, "width": 250}, "do_center_crop": True}),
    ("Pvt", {}),
    ("Siglip", {}),
    ("Blip", {}),
    ("ConvNext", {}),
    ("ConvNext", {"size": {"shortest_edge": 224}, "crop_pct": 0.95}),
    ("EfficientNet", {}),
    ("EfficientNet", {"rescale_offset": True, "rescale_factor": 1 / 127.5, "include_top": False}),
    ("EfficientNet", {"do_center_crop": True, "resample": 0}),
    ("MobileNetV1", {}),
    ("MobileNetV2", {}),
    ("MobileViT", {}),
    ("CLIP", {}),
    ("CLIP", {"size": {"shortest_edge": 100}, "crop_size": {"height": 131, "width": 97}}),
    ("ChineseCLIP", {}),
    ("Bit", {"size": {"shortest_edge": 448}, "crop_size": {"height": 448, "width": 448}}),
    ("Levit", {}),
    ("PoolFormer", {}),
    ("PoolFormer", {"size": {"height": 200, "width": 200}, "crop_pct": 0.8}),
]


@pytest.mark.parametrize(("name", "options"), PROCESSORS)
def test_hugging_face(tmp_path: Path, name: str, options: Mapping[str, Any]) -> None:
    processor = getattr(transformers, f"{name}ImageProcessorPil")(**options)
    told = json.loads(processor.to_json_string())

    def theirs(image: Image.Image) -> np.ndarray:
        return np.asarray(processor(image, return_tensors="np")["pixel_values"][0])

    compare(f"{name} {dict(options)}", beside(tmp_path, "preprocessor_config", told), theirs)
    short = {
        "image_processor_type": f"{name}ImageProcessor",
        **options,
    }  # a file that leaves out what is usual
    compare(f"{name} {dict(options)}, short", beside(tmp_path, "preprocessor_config", short), theirs)


def beside(folder: Path, file: str, told: Mapping[str, Any]) -> Preprocessing:
    (folder / "m").mkdir(exist_ok=True)
    (folder / "m" / f"{file}.json").write_text(json.dumps(told))
    found = read_beside(ModelFiles.at(folder), "m")
    assert found.preprocessing is not None, found.problem
    return found.preprocessing
