"""The timing server takes up a new prior, and keeps the old one from a file that is none."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from services.timing.advisor import Advisor
from services.timing.config import TimingConfig
from services.timing.prior_file import Trained, to_bytes
from serving.models.artifacts import ArtifactError, publish

MANIFEST = Path(__file__).parents[2] / "services/timing/manifests/posting-times.yaml"


def put(models: Path, folder: Path, version: str, content: bytes) -> None:
    document = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))
    document |= {"version": version, "sha256": hashlib.sha256(content).hexdigest()}
    path = folder / f"{version}.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    publish(models, path, content)


async def test_new_prior_answers_once_it_is_asked_for(
    repository: Path, tmp_path: Path, trained: Trained
) -> None:
    models = Path(shutil.copytree(repository, tmp_path / "models"))
    nobody, prior = np.zeros(168), trained.prior
    async with Advisor(TimingConfig(models, tmp_path / "timing.sqlite")) as advisor:
        before = advisor.loaded
        told = await advisor.draw(before, nobody, nobody)
        flat = replace(trained, prior=replace(prior, curves=np.ones_like(prior.curves)))
        put(models, tmp_path, "2", to_bytes(flat))
        assert advisor.loaded is before
        await advisor.renew()
        assert advisor.loaded.ref.version == "2"
        after = await advisor.draw(advisor.loaded, nobody, nobody)
        assert after.mean(axis=0).std() < told.mean(axis=0).std() / 2
        assert np.array_equal(await advisor.draw(before, nobody, nobody), told)
        put(models, tmp_path, "3", b"no archive")
        with pytest.raises(ArtifactError, match=r"posting-times\.npz is no prior"):
            await advisor.renew()
        assert advisor.loaded.ref.version == "2"
