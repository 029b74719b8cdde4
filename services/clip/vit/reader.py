"""The text tower as a reader of texts, which remembers what it has read.

Callers ask with the same labels again and again, and a text costs as much as a third of a picture,
so embeddings are kept by text: the least recently used ones leave first.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.clip.vit.tokenizer import Tokenizer
from serving.models.model import Model

LENGTH_MULTIPLE = 8  # texts are filled up to one, so that those of about a length share a batch
ROWS_AT_ONCE = 64  # of one caller in the model's queue
MAX_REMEMBERED = 16_384  # embeddings: 32 MiB of 512 numbers
MAX_REMEMBERED_LENGTH = 256  # code points: a longer text is no label


class Reader:
    """Embeds texts. Belongs to one event loop."""

    def __init__(self, model: Model, tokenizer: Tokenizer) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._remembered: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    async def read(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns (texts, size) embeddings of L2 norm 1; what passes the context is not read.

        Raises what `Model.infer` raises.
        """
        wanted = dict.fromkeys(texts)
        known = {text: self._recall(text) for text in wanted}
        unread = [text for text, point in known.items() if point is None]
        if unread:
            known |= await self._read(unread)
        return np.stack([point for text in texts if (point := known[text]) is not None])

    async def _read(self, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Embeds different texts, those of about a length together."""
        encoded = await asyncio.to_thread(lambda: [self._tokenizer.encode(t) for t in texts])
        order = sorted(range(len(texts)), key=lambda at: len(encoded[at]))
        found = {}
        for start in range(0, len(order), ROWS_AT_ONCE):
            part = order[start : start + ROWS_AT_ONCE]
            ids = self._tokenizer.filled([encoded[at] for at in part], LENGTH_MULTIPLE)
            points = (await self._model.infer({"ids": ids}))["embedding"]
            for at, point in zip(part, points, strict=True):
                found[texts[at]] = point
                self._remember(texts[at], point)
        return found

    def _recall(self, text: str) -> NDArray[np.float32] | None:
        if text in self._remembered:
            self._remembered.move_to_end(text)
        return self._remembered.get(text)

    def _remember(self, text: str, point: NDArray[np.float32]) -> None:
        if len(text) <= MAX_REMEMBERED_LENGTH:
            self._remembered[text] = point.copy()  # not a view that keeps its whole batch
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)
