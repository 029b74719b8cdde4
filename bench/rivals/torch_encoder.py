"""A text encoder of MiniLM's size with seeded random weights, as a Torch export in a repository."""

from pathlib import Path

import torch
import yaml
from torch import nn
from torch.nn import functional

NAME = "encoder"
LENGTH = 64  # tokens of each text
MAX_ROWS = 32
_WORDS, _WIDTH, _HEADS, _INNER, _LAYERS = 30_522, 384, 12, 1_536, 6


class Block(nn.Module):  # type: ignore[misc]  # Torch is not there where types are checked
    """Self-attention and two linear layers, each with a residual and a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(_WIDTH, 3 * _WIDTH), nn.Linear(_WIDTH, _WIDTH)
        self.wide, self.narrow = nn.Linear(_WIDTH, _INNER), nn.Linear(_INNER, _WIDTH)
        self.norms = nn.ModuleList([nn.LayerNorm(_WIDTH), nn.LayerNorm(_WIDTH)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(rows, length, width) to the same."""
        parts = self.qkv(x).unflatten(-1, (3, _HEADS, _WIDTH // _HEADS)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(parts[0], parts[1], parts[2])
        x = self.norms[0](x + self.out(mixed.transpose(1, 2).flatten(-2)))
        y: torch.Tensor = self.norms[1](x + self.narrow(functional.gelu(self.wide(x))))
        return y


class Encoder(nn.Module):  # type: ignore[misc]  # as above
    """Ids (rows, length) int64 to vectors (rows, width) of length 1."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.vectors = nn.Embedding(_WORDS, _WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(_LAYERS)))

    def forward(self, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        """Returns the mean of the tokens' vectors."""
        return {"vector": functional.normalize(self.blocks(self.vectors(ids)).mean(1))}


def write_encoder(folder: Path, device: str, precision: str) -> Path:
    """Fills a repository with the encoder; returns its file."""
    rows = torch.export.Dim("rows", min=1, max=MAX_ROWS)
    sample = (torch.zeros(2, LENGTH, dtype=torch.int64),)
    program = torch.export.export(Encoder().eval(), sample, dynamic_shapes=({0: rows},))
    path = folder / NAME / "1" / "model.pt2"
    path.parent.mkdir(parents=True)
    torch.export.save(program, path)
    options = {
        "device": device,
        "precision": precision,
        "batching": {"max_batch_rows": MAX_ROWS, "allowed_rows": [1, 2, 4, 8, 16, 32]},
        "warm_up": [{"ids": [-1, LENGTH]}],
    }
    (folder / NAME / "model.yaml").write_text(yaml.safe_dump(options))
    return path
