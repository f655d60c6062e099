"""Bundle: the release as a folder. Plan, features, segments and one model per study, one digest over every byte."""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from features.behaviour.feature_set import FeatureSet
from features.behaviour.histories import Histories
from features.behaviour.matrix import FeatureMatrix
from features.behaviour.schema import StateSchema
from features.errors import BundleError
from features.files import rewrite
from features.segments.segment_set import SegmentSet
from training.model import Model, Scores, digest_of, dump_json, file_digests, read_json, write_json

MANIFEST = "bundle.json"
CURRENT, CHALLENGER = "CURRENT", "CHALLENGER"
"""Files that name a bundle: the one that answers, and one that scores beside it."""
FAULTS = "FAULTS"
"""A file beside them: which versions of the registry could not be published, and why."""
SEGMENTS = "segments.json"


@dataclass(frozen=True)
class Bundle:
    """A release that explains and computes itself: no project folder, plan or registry is needed beside it.

    Attributes:
        path: Its folder.
        name: The project's name.
        version: The release's number in the registry, or a text such as `local`.
        digest: SHA-256, 64 hexadecimal digits, over the name, the version and every file's SHA-256.
        features: What it computes of a user's history.
        models: One per study.
        segments: Whose truths it tells; None where none are declared.
    """

    path: Path
    name: str
    version: str
    digest: str
    features: FeatureSet
    models: Mapping[str, Model]
    segments: SegmentSet | None = None

    @classmethod
    def write(
        cls,
        folder: Path | str,
        *,
        name: str,
        version: str,
        features: FeatureSet,
        models: Mapping[str, Path],
        segments: SegmentSet | None = None,
        plan: Path | None = None,
        lock: Path | None = None,
    ) -> Self:
        """Make a bundle in a folder that does not exist yet.

        Args:
            folder: Where to.
            name: The project's name.
            version: The release's number.
            features: The set that every model was trained on.
            models: A model's folder per study.
            segments: With the bounds of their percentiles.
            plan: The tracking plan's file, for readers and for the door.
            lock: The plan's codes.

        Raises:
            BundleError: the folder exists, there is no model, or a model was trained on other features.
        """
        folder = Path(folder)
        if folder.exists():
            raise BundleError(f"{folder} exists. Hint: a bundle never changes; choose another folder.")
        if not models:
            raise BundleError("a bundle needs a model. Hint: `ethogram study run NAME`.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".bundle-") as temporary:
            draft = Path(temporary) / "draft"
            draft.mkdir()
            for file, target in ((plan, "plan.yaml"), (lock, "plan.lock")):
                if file is not None and file.exists():
                    shutil.copyfile(file, draft / target)
            write_json(draft / "features.json", features.to_dict())
            if segments is not None:
                write_json(draft / SEGMENTS, segments.to_dict())
            for study, source in models.items():
                shutil.copytree(source, draft / "models" / study)
            _write_manifest(draft, name, version)
            cls.load(draft, verify=True)
            draft.rename(folder)
        return cls.load(folder)

    @classmethod
    def load(cls, folder: Path | str, *, digest: str | None = None, verify: bool = False) -> Self:
        """The bundle in a folder; every byte is checked first, and before any code in it may run.

        Args:
            folder: Holds bundle.json and what it lists.
            digest: What the bundle's has to be, where the caller knows it.
            verify: Recompute every model's golden rows as well.

        Raises:
            BundleError: a file is missing, added or changed; a model does not fit the features.
        """
        folder = Path(folder)
        manifest = _checked_manifest(folder)
        if digest is not None and manifest["digest"] != digest:
            raise BundleError(f"the folder {digest[:12]} holds the bundle {manifest['digest'][:12]}.")
        features = FeatureSet.load(read_json(folder / "features.json"))
        studies = sorted({path.split("/")[1] for path in manifest["files"] if path.startswith("models/")})
        models = {study: Model.load(folder / "models" / study, verify=verify) for study in studies}
        for study, model in models.items():
            _check_fit(study, model, features)
        segments = SegmentSet.load(read_json(folder / SEGMENTS)) if SEGMENTS in manifest["files"] else None
        return cls(folder, manifest["name"], manifest["version"], manifest["digest"], features, models, segments)

    @cached_property
    def schema(self) -> StateSchema:
        """What histories must hold for features and segments."""
        return self.features.schema if self.segments is None else self.features.schema.union(self.segments.schema)

    @cached_property
    def computed(self) -> FeatureSet:
        """The features, over histories of `schema`."""
        return self.features if self.segments is None else self.features.on(self.schema)

    @cached_property
    def told(self) -> SegmentSet | None:
        """The segments, over histories of `schema`."""
        return None if self.segments is None else self.segments.on(self.schema)

    def score(self, histories: Histories, at: int | NDArray[np.int64]) -> dict[str, Scores]:
        """What every model says of every row of `histories` as of `at` (microseconds UTC, one or one per row)."""
        return self.score_matrix(self.features.compute(histories, at))

    def score_matrix(self, matrix: FeatureMatrix) -> dict[str, Scores]:
        """The same for features that are computed already, also over histories that hold what segments need."""
        if matrix.fingerprint == self.computed.fingerprint:
            matrix = replace(matrix, fingerprint=self.features.fingerprint)
        return {study: model.score(matrix) for study, model in self.models.items()}


def publish(bundle: Path | str, bundles: Path | str, *, pointer: str = CURRENT) -> Path:
    """Copy a bundle to `bundles/<digest>/` and point `bundles/CURRENT` (or another file) at it, each in one step.

    A follower sees the old release or the new one, never a part. Publishing what is there already only moves CURRENT,
    which is how a rollback works.

    Returns:
        The bundle's folder below `bundles`.

    Raises:
        BundleError: the bundle is altered, or the copy under this digest is.
    """
    bundle, bundles = Path(bundle), Path(bundles)
    digest = str(_checked_manifest(bundle)["digest"])
    bundles.mkdir(parents=True, exist_ok=True)
    target = bundles / digest
    if not target.exists():
        draft = Path(tempfile.mkdtemp(dir=bundles, prefix=".draft-"))
        try:
            shutil.copytree(bundle, draft / digest)
            (draft / digest).rename(target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    _checked_manifest(target)
    rewrite(bundles / pointer, digest + "\n")
    return target


def current(bundles: Path | str, pointer: str = CURRENT) -> Path | None:
    """The folder of the published bundle, or None where nothing was published.

    Raises:
        BundleError: CURRENT names a folder that is not there.
    """
    named = Path(bundles) / pointer
    if not named.exists():
        return None
    target = Path(bundles) / named.read_text(encoding="utf-8").strip()
    if not (target / MANIFEST).exists():
        raise BundleError(f"{named} names {target.name!r}, which is not there. Hint: `ethogram promote`.")
    return target


def _write_manifest(folder: Path, name: str, version: str) -> None:
    body = {"version": version, "name": name, "files": file_digests(folder)}
    write_json(folder / MANIFEST, {**body, "digest": digest_of(body)})


def _checked_manifest(folder: Path) -> dict[str, Any]:
    manifest = read_json(folder / MANIFEST)
    try:
        body = {key: manifest[key] for key in ("version", "name", "files")}
        written = (folder / MANIFEST).read_text(encoding="utf-8")
        sound = manifest["digest"] == digest_of(body) and dump_json({**body, "digest": manifest["digest"]}) == written
        wanted = dict(body["files"])
    except (KeyError, TypeError, ValueError):
        raise BundleError(f"{folder.name}/{MANIFEST} cannot be read. Hint: publish the bundle again.") from None
    if not sound:
        raise BundleError(f"{folder.name}/{MANIFEST} does not match its digest. Hint: publish the bundle again.")
    found = file_digests(folder)
    found.pop(MANIFEST)
    differing = sorted(path for path in {*wanted, *found} if wanted.get(path) != found.get(path))
    if differing:
        what = (
            "is missing" if differing[0] not in found else "was added" if differing[0] not in wanted else "was changed"
        )
        raise BundleError(f"{folder.name}/{differing[0]} {what}. Hint: publish the bundle again.")
    return dict(manifest)


def _check_fit(study: str, model: Model, features: FeatureSet) -> None:
    if model.study != study:
        raise BundleError(f"the folder models/{study} holds the model of {model.study!r}.")
    if model.features != features.fingerprint:
        raise BundleError(
            f"model {study!r} was trained on the features {model.features}, the bundle has {features.fingerprint}. "
            f"Hint: `ethogram study run {study}`."
        )
    unknown = [name for name in model.preparation.names if name not in features.names]
    if unknown:
        raise BundleError(f"model {study!r} needs the feature {unknown[0]!r}, which the bundle does not compute.")
