"""Writes what Hugging Face's image processors make of one picture, for the framing test.

    pip install torch torchvision transformers pillow
    python make.py
"""

from pathlib import Path

import numpy as np
from PIL import Image
from transformers import BlipImageProcessor, CLIPImageProcessor, ConvNextImageProcessor, ViTImageProcessor

HERE = Path(__file__).parent
RAW = dict(do_rescale=False, do_normalize=False)


def picture(width=90, height=61):
    y, x = np.mgrid[0:height, 0:width]
    channels = [(x * 5 + y * 3) % 256, (x * y) // 7 % 256, ((x - 40) ** 2 + (y - 30) ** 2) // 9 % 256]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def main():
    image = picture()
    image.save(HERE / "picture.png")
    for name, processor in {
        "vit": ViTImageProcessor(size={"height": 24, "width": 24}, resample=2, **RAW),
        "blip": BlipImageProcessor(size={"height": 24, "width": 24}, resample=3, **RAW),
        "clip": CLIPImageProcessor(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}, resample=3, **RAW),
        "resnet": ConvNextImageProcessor(size={"shortest_edge": 28}, crop_pct=0.875, resample=3, **RAW),
    }.items():
        pixels = np.asarray(processor(image)["pixel_values"][0])
        Image.fromarray(pixels.transpose(1, 2, 0).astype(np.uint8)).save(HERE / f"{name}.png")


if __name__ == "__main__":
    main()
