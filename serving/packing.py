"""Packing: a bundle as a model of BentoML's store, so that a Bento carries the last known good one."""

import shutil
import sys
from contextlib import chdir, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from training.bundle import Bundle

MODEL = "ethogram-bundle"
"""The model's name in BentoML's store; bentofile.yaml names it."""
FOLDER = "bundle"  # within the model: BentoML writes a file of its own beside it
DIGITS = 32  # a BentoML version has at most 63 characters


def pack(folder: Path) -> str:
    """Put a bundle into BentoML's model store under its digest; the newest of its name from now on.

    Args:
        folder: The bundle's.

    Returns:
        The tag, `ethogram-bundle:` and the beginning of the digest; the whole digest is in the model's metadata.

    Raises:
        BundleError: the bundle is altered or incomplete.
    """
    import bentoml
    from bentoml.exceptions import NotFound

    bundle = Bundle.load(folder)
    tag = f"{MODEL}:{bundle.digest[:DIGITS]}"
    with suppress(NotFound):
        bentoml.models.delete(tag)  # stored again below: `latest` goes by the time of storing
    labels = {"name": bundle.name, "version": str(bundle.version)}
    metadata = {"digest": bundle.digest, "studies": sorted(bundle.models)}
    with bentoml.models.create(tag, labels=labels, metadata=metadata) as model:
        shutil.copytree(folder, Path(model.path) / FOLDER)
    return tag


def build(root: Path) -> tuple[str, Path]:
    """Build a Bento from `root`/bentofile.yaml with the newest packed bundle inside.

    Returns:
        (its tag, its folder).
    """
    import bentoml

    with chdir(root):  # BentoML reads nothing outside of the working folder
        made = bentoml.bentos.build_bentofile(str(root / "bentofile.yaml"), build_ctx=str(root))
    return str(made.tag), Path(made.path)


def warm_up(models: Path) -> int:
    """Compile what the bundles below a folder need, as when an image is built; how many there are."""
    from serving.runtime import warm
    from serving.scorer import Scorer
    from serving.store import SqliteStore

    found = sorted(models.rglob("bundle.json"))
    with TemporaryDirectory() as folder, SqliteStore(Path(folder) / "state.db") as store:
        for manifest in found:
            warm(Scorer(Bundle.load(manifest.parent), store))
    return len(found)


if __name__ == "__main__":
    raise SystemExit(0 if warm_up(Path(sys.argv[1])) else 1)
