"""Writes aggregators.json: random gradient matrices and the directions TorchJD gives for them, in f64.

    python -m venv venv && venv/bin/pip install torch "torchjd[cagrad,upgrad]" && venv/bin/python make.py

Matrices are k x n with k <= n, rounded to the digits written, so that both sides start from the same numbers. They are
full rank: plain random, badly conditioned, conflicting (nearly opposed rows), and of very different norms.
Regularisers are set to 1e-10 where they can be. PCGrad and GradVac record the orders they drew; GradVac is called
twice on each matrix, so that its targets matter, and the second direction is kept.
"""
import json
import pathlib
import sys

import numpy as np
import torch
import torchjd
from torchjd.aggregation import (MGDA, AlignedMTL, CAGrad, DualProj, GradVac, IMTLG, PCGrad, UPGrad)
from torchjd.linalg import QuadprogProjector

torch.set_default_dtype(torch.float64)
CASES = 240


def matrix(rng, case):
    k = 2 + case % 4
    n = k + case % 3
    a = rng.standard_normal((k, n))
    kind = ["random", "ill", "conflict", "norms"][(case // 4) % 4]
    if kind == "ill":
        u, _, v = np.linalg.svd(a, full_matrices=False)
        a = u @ np.diag(np.geomspace(1.0, 10.0 ** rng.uniform(-3, -1.5), k)) @ v
    if kind == "conflict":
        shared = rng.standard_normal(n)
        a = 0.5 * a + np.outer(np.where(np.arange(k) % 2 == 0, 1.0, -1.0), shared)
    if kind == "norms":
        a = a * (10.0 ** rng.uniform(-1.5, 1.5, (k, 1)))
    return kind, np.round(a, 5)


def orders_of(permutations, k, positions):
    """Per objective the others in the order met; `positions`: the permutation indexes the list of others."""
    orders = []
    for i, p in enumerate(permutations):
        others = [j for j in range(k) if j != i]
        orders.append([others[x] for x in p] if positions else [j for j in p if j != i])
    return orders


def recorded(call):
    drawn, draw = [], torch.randperm

    def spy(*args, **kwargs):
        p = draw(*args, **kwargs)
        drawn.append(p.tolist())
        return p

    torch.randperm = spy
    try:
        return call(), drawn
    finally:
        torch.randperm = draw


def main():
    rng = np.random.default_rng(20250301)
    torch.manual_seed(7)
    tight = dict(norm_eps=1e-10, reg_eps=1e-10)
    rules = {
        "mgda": MGDA(),
        "cagrad": CAGrad(c=0.4, norm_eps=1e-10),
        "upgrad": UPGrad(projector=QuadprogProjector(**tight)),
        "dualproj": DualProj(projector=QuadprogProjector(**tight)),
        "aligned-mtl": AlignedMTL(),
        "imtl-g": IMTLG(),
    }
    cases = []
    for case in range(CASES):
        kind, a = matrix(rng, case)
        k, n = a.shape
        jacobian = torch.tensor(a)
        compact = lambda d: [float(f"{v:.9g}") for v in d.tolist()]
        out = {name: compact(rule(jacobian)) for name, rule in rules.items()}
        d, drawn = recorded(lambda: PCGrad()(jacobian))
        pcgrad = {"orders": orders_of(drawn, k, False), "d": compact(d)}
        vaccine = GradVac(beta=0.5, eps=1e-10)
        d, drawn = recorded(lambda: (vaccine(jacobian), vaccine(jacobian))[1])
        gradvac = {"orders": [orders_of(drawn[:k], k, True), orders_of(drawn[k:], k, True)], "d": compact(d)}
        cases.append({"kind": kind, "g": a.tolist(), "directions": out, "pcgrad": pcgrad, "gradvac": gradvac})
    versions = {"torch": torch.__version__, "torchjd": torchjd.__version__ if hasattr(torchjd, "__version__") else ""}
    lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
    here = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else __file__).resolve()
    target = here / "aggregators.json" if here.is_dir() else here.parent / "aggregators.json"
    target.write_text('{"versions":' + json.dumps(versions) + ',"cases":[\n' + lines + "\n]}\n")


if __name__ == "__main__":
    main()
