"""A digest of everything that an analysis depends on beside the picture."""

import hashlib
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

from fomofeed.type.v1 import type_pb2
from services.clip.config import ClipConfig

HERE = Path(__file__).parent
_SHIPPED = ("tags.yaml", "coco.yaml")


def fingerprint(config: ClipConfig, refs: Iterable[type_pb2.ModelRef]) -> bytes:
    """Returns 32 bytes: of the models' references, the settings, and the files they name.

    A folder of weights is told by the reference that was made from its digest. Reads files.
    """
    whole = hashlib.sha256()
    for ref in refs:
        whole.update(ref.SerializeToString(deterministic=True))
    for name in _SHIPPED:
        whole.update((HERE / name).read_bytes())
    for field in fields(config):
        value = getattr(config, field.name)
        whole.update(f"\n{field.name}={value}\n".encode())
        if isinstance(value, Path) and value.is_file():
            whole.update(value.read_bytes())
    return whole.digest()
