"""Renders the overlays with the real kubectl, once for all tests."""

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
OVERLAYS = sorted(path.name for path in (ROOT / "k8s/overlays").iterdir())

Document = dict[str, Any]


@cache
def rendered(folder: Path) -> tuple[Document, ...]:
    """The objects that an overlay applies."""
    kubectl = Path(sys.executable).parent / "kubectl"
    done = subprocess.run([kubectl, "kustomize", folder], check=True, capture_output=True)
    return tuple(yaml.safe_load_all(done.stdout))


class Overlay:
    """The rendered objects of one overlay, by kind and name."""

    def __init__(self, documents: tuple[Document, ...]) -> None:
        self._documents = documents

    def all(self, kind: str) -> list[Document]:
        return [document for document in self._documents if document["kind"] == kind]

    def one(self, kind: str, name: str) -> Document:
        return next(each for each in self.all(kind) if each["metadata"]["name"] == name)

    def settings(self, deployment: Document) -> dict[str, str]:
        """The variables that a deployment's server is given."""
        name = container(deployment)["envFrom"][0]["configMapRef"]["name"]
        return dict(self.one("ConfigMap", name)["data"])


def pod(deployment: Document) -> Document:
    return dict(deployment["spec"]["template"]["spec"])


def container(deployment: Document) -> Document:
    (only,) = pod(deployment)["containers"]
    return dict(only)
