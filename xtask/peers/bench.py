"""The other side of `cargo xtask bench --peer PYTHON`: the same cases in PyTorch, TorchJD, torchvision and PIL.

    bench.py make FOLDER           random models of full size and JPEGs, for both sides to read
    bench.py CASE [ARGUMENTS]      one case; a block is timed for each line on stdin, as crates/trainer/examples/bench does
    bench.py versions
"""

import json
import os
import sys
import time
from pathlib import Path

THREADS = int(os.environ.get("RAYON_NUM_THREADS", "2"))
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))

import torch
from torch import nn
import torch.nn.functional as F

torch.set_num_threads(THREADS)
BLOCK, CLASSES, WIDTH, TOKENS = 0.4, 8, 256, 24


def status(field):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def imported():
    """Called by a case when all is imported, and before weights are: memory is counted from here."""
    global START
    torch.optim.AdamW([nn.Parameter(torch.zeros(1))]).step()  # imports more, the first time
    START = status("VmRSS:")


def size(model):
    return sum(p.numel() for p in model.parameters())


# What the small encoders and the towers are made of; `parameters` is compared with what we train.


class Block(nn.Module):
    """A transformer block, norms first."""

    def __init__(self, width, heads, inner):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.value, self.output = (nn.Linear(width, width) for _ in range(3))
        self.key = nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x, mask=None):
        b, t, width = x.shape
        y = self.norm1(x)
        q, k, v = (f(y).view(b, t, self.heads, -1).transpose(1, 2) for f in (self.query, self.key, self.value))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.output(y.transpose(1, 2).reshape(b, t, width))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class SmallViT(nn.Module):
    def __init__(self, width=96, layers=3, heads=4, inner=192, size=64, patch=8):
        super().__init__()
        self.dim = width
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.positions = nn.Parameter(torch.randn((size // patch) ** 2, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, heads, inner) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, pixels):
        x = self.patches(pixels).flatten(2).transpose(1, 2) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.norm(x).mean(1)


class SmallBert(nn.Module):
    def __init__(self, width=128, layers=2, heads=4, inner=256, vocabulary=1024, limit=128):
        super().__init__()
        self.dim = width
        self.words, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(limit, width)
        self.blocks = nn.ModuleList(Block(width, heads, inner) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, ids):
        mask = torch.ones(ids.shape)
        x = self.words(ids) + self.positions.weight[: ids.shape[1]]
        additive = ((mask - 1) * 1e4)[:, None, None]
        for block in self.blocks:
            x = block(x, additive)
        x = self.norm(x)
        return (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)


class ResNet(nn.Module):
    """ResNet-18 with the statistics of its batch norms at rest, weight and bias learning, as where it is fine-tuned."""

    def __init__(self, folder):
        super().__init__()
        self.dim = 512
        self.net = ResNetModel.from_pretrained(folder).eval()

    def forward(self, pixels):
        return self.net(pixels).pooler_output.flatten(1)


class TwoTower(nn.Module):
    """Encoders, `h_m`, concatenation, one linear layer. Own heads are there, and `joint` does not train them."""

    def __init__(self, encoders, dims, norms):
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        heads = [[nn.Linear(dim, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH)] for dim in dims]
        self.heads = nn.ModuleList(nn.Sequential(*([nn.LayerNorm(d)] if n else []), *h) for d, n, h in zip(dims, norms, heads))
        self.own = nn.ModuleList(nn.Linear(WIDTH, CLASSES) for _ in dims)
        self.fused = nn.Linear(WIDTH * len(dims), CLASSES)

    def forward(self, inputs):
        return self.fused(torch.cat([h(e(x)) for e, h, x in zip(self.encoders, self.heads, inputs)], 1))


def wave(*shape):
    return torch.sin(torch.arange(torch.Size(shape).numel(), dtype=torch.float32) * 0.7).view(shape)


def ids(batch):
    return torch.tensor([[(b * 31 + t * 7) % 1000 for t in range(TOKENS)] for b in range(batch)])


def step(setting, folder=None):
    if setting == "resnet":
        global ResNetModel
        from transformers import ResNetModel
    imported()
    if setting == "frozen":
        batch, encoders, dims, norms = 64, [nn.Identity(), nn.Identity()], [1030, 1024], [False, False]
        inputs = [wave(batch, 1030), wave(batch, 1024)]
    elif setting == "small":
        batch, encoders, norms = 64, [SmallViT(), SmallBert()], [True, True]
        dims, inputs = [e.dim for e in encoders], [wave(batch, 3, 64, 64), ids(batch)]
    else:
        batch, encoders, dims, norms = 32, [ResNet(folder), nn.Identity()], [512, 384], [True, False]
        inputs = [wave(batch, 3, 64, 64), wave(batch, 384)]
    model = TwoTower(encoders, dims, norms)
    labels = torch.arange(batch) % CLASSES
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01)

    def iterate():
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), labels).backward()
        optimizer.step()

    return iterate, size(model), size(model)


def features(name, folder):
    from transformers import BertModel, ViTModel

    imported()
    model = (ViTModel if name == "vit" else BertModel).from_pretrained(folder, add_pooling_layer=False).eval()
    inputs = {"pixel_values": wave(8, 3, 224, 224)} if name == "vit" else {"input_ids": ids(8), "attention_mask": torch.ones(8, TOKENS)}

    @torch.inference_mode()
    def iterate():
        x = model(**inputs).last_hidden_state
        return x[:, 0] if name == "vit" else x.mean(1)

    return iterate, size(model), size(model)


def aggregate(rule):
    from torchjd.aggregation import PCGrad, UPGrad
    from torchjd.autojac import jac_to_grad

    rule = {"upgrad": UPGrad, "pcgrad": PCGrad}[rule]()
    imported()
    parameters = [nn.Parameter(torch.zeros(250_000)) for _ in range(100)]
    for i, p in enumerate(parameters):
        index = torch.arange(250_000, dtype=torch.int64)
        bits = [((index + 97 * i) * 2654435761 % 2**32 + o * 40503) * 2246822519 % 2**32 for o in range(3)]
        p.jac = torch.stack(bits).float() / 2**31 - 1

    def iterate():
        for p in parameters:
            p.grad = None
        jac_to_grad(parameters, rule, retain_jac=True)

    return iterate, 4 * 25_000_000, 0


def images(folder):
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    ready = transforms.Compose(
        [
            transforms.Resize((224, 224), antialias=True),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    imported()
    files = sorted(Path(folder).glob("*.jpg"))

    class Files(Dataset):
        def __len__(self):
            return len(files)

        def __getitem__(self, i):
            return ready(Image.open(files[i]).convert("RGB"))

    loader = DataLoader(Files(), batch_size=32, num_workers=THREADS, persistent_workers=True)

    def iterate():
        for _ in loader:
            pass

    return iterate, 0, 0


def make(folder):
    """Random models of full size, and JPEGs of 500 pixels with their resized pixels as reference.rgb, 64 × 224 × 224 × 3."""
    import numpy as np
    from PIL import Image
    from transformers import BertConfig, BertModel, ResNetConfig, ResNetModel, ViTConfig, ViTModel

    torch.manual_seed(0)
    basic = ResNetConfig(hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic")
    models = {
        "resnet": lambda: ResNetModel(basic),
        "vit": lambda: ViTModel(ViTConfig(), add_pooling_layer=False),
        "bert": lambda: BertModel(BertConfig(), add_pooling_layer=False),
    }
    for name, build in models.items():
        if not (folder / name / "config.json").exists():
            build().save_pretrained(folder / name)
    if (folder / "jpegs" / "reference.rgb").exists():
        return
    (folder / "jpegs").mkdir(parents=True, exist_ok=True)
    bundled = sorted((Path(__file__).parents[2] / "datasets/emoji/images").rglob("*.png"))[::37][:64]
    random, references = np.random.default_rng(0), []
    for i in range(64):
        # Octaves of smoothed noise, which have the spectrum of a photograph, under one of the bundled images.
        width, height = [(500, 500), (500, 375), (375, 500)][i % 3]
        texture = np.zeros((height, width, 3))
        for octave in range(8):
            noise = random.normal(128, 48 / 1.6**octave, (2 + 2**octave, 2 + 2**octave, 3)).clip(0, 255).astype("uint8")
            texture += np.asarray(Image.fromarray(noise).resize((width, height), Image.BICUBIC), float) - 128
        image = Image.fromarray((texture + 128).clip(0, 255).astype("uint8"))
        if bundled:
            icon = Image.open(bundled[i % len(bundled)]).convert("RGBA").resize((260, 260), Image.BICUBIC)
            image.paste(icon, (60, 50), icon)
        path = folder / "jpegs" / f"{i:02}.jpg"
        image.save(path, quality=90)
        references.append(np.asarray(Image.open(path).convert("RGB").resize((224, 224), Image.BILINEAR)))
    np.stack(references).tofile(folder / "jpegs" / "reference.rgb")


def versions():
    import torchjd, torchvision, PIL, transformers
    from importlib.metadata import version

    names = {"torch": torch, "torchvision": torchvision, "transformers": transformers, "PIL": PIL}
    print(json.dumps({name: module.__version__ for name, module in names.items()} | {"torchjd": version("torchjd")}))


CASES = {"step": step, "features": features, "aggregate": aggregate, "images": images}


def main():
    name, *arguments = sys.argv[1:]
    if name == "make":
        return make(Path(arguments[0]))
    if name == "versions":
        return versions()
    iterate, held, parameters = CASES[name](*arguments)
    Path("/proc/self/clear_refs").write_text("5")

    def timed(iterations):
        start = time.perf_counter()
        for _ in range(iterations):
            iterate()
        return (time.perf_counter() - start) / iterations

    seconds = [timed(1) for _ in range(3)][-1]
    iterations = max(1, -int(-BLOCK // seconds))
    while True:
        seconds = timed(iterations)
        peak = max(0, status("VmHWM:") - START - 4 * held)
        print(json.dumps({"seconds": seconds, "peak": peak, "parameters": parameters}), flush=True)
        if not sys.stdin.readline():
            break


if __name__ == "__main__":
    main()
