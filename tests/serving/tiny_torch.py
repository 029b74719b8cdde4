"""Tiny Torch models for tests, written with Torch's own export. Needs the extra `torch`."""

from pathlib import Path

import torch


class Linear(torch.nn.Module):
    """`y = scale * x + 1`."""

    def __init__(self, scale: float = 2.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"y": x * self.scale + 1}


class BatchMean(torch.nn.Module):
    """Takes the mean over all rows out of each: no row is alone."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(0, keepdim=True) + x.shape[0]


class Embedder(torch.nn.Module):
    """Mean of the vectors of ids (rows, length) under a mask, as text models answer."""

    def __init__(self, *, heeds_mask: bool = True) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.vectors, self.heeds_mask = torch.nn.Embedding(32, 8), heeds_mask

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = self.vectors(ids)
        weights = (
            mask.unsqueeze(-1).to(tokens.dtype) if self.heeds_mask else torch.ones_like(tokens)
        )
        return tokens, (tokens * weights).sum(1) / weights.sum(1)


def bag() -> torch.nn.Module:
    """Mean of the vectors of ids, of rows that are told apart by where they begin and end."""
    torch.manual_seed(4)
    return torch.nn.EmbeddingBag(32, 8, include_last_offset=True)


def mlp() -> torch.nn.Module:
    """8 to 3, with seeded weights."""
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))


def export(path: Path, module: torch.nn.Module, width: int = 3, max_rows: int = 64) -> Path:
    """Exports a module over (rows, width) float32."""
    rows = torch.export.Dim("rows", min=1, max=max_rows)
    sample = (torch.zeros(2, width),)
    program = torch.export.export(module.eval(), sample, dynamic_shapes=({0: rows},))
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.export.save(program, path)
    return path


def export_embedder(path: Path, *, heeds_mask: bool = True) -> Path:
    """Exports an `Embedder` over (rows, length) int64 ids and mask."""
    sizes = {0: torch.export.Dim("rows", min=1), 1: torch.export.Dim("length", min=1, max=512)}
    sample = (torch.zeros(2, 5, dtype=torch.int64), torch.ones(2, 5, dtype=torch.int64))
    module = Embedder(heeds_mask=heeds_mask).eval()
    program = torch.export.export(module, sample, dynamic_shapes=(sizes, sizes))
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.export.save(program, path)
    return path
