"""The loop as a Prefect flow: a turn every six hours, tried again when it fails; its answer is the run's artifact.

The flow calls the command line, so Prefect lives in an environment of its own:
`pip install -r requirements/prefect.lock`.

    ETHOGRAM_PROJECT=/srv/my-shop PATH=/srv/ethogram/.venv/bin:$PATH python examples/schedule/prefect_flow.py

serves the schedule; `once` as an argument takes one turn.
"""

import json
import subprocess
import sys

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact

TURN = ["ethogram", "loop", "run", "--once", "--json"]


@task(retries=2, retry_delay_seconds=300)
def turn(force: bool = False) -> dict:
    """One turn of the loop; a decision as a document."""
    command = [*TURN, *(["--force"] if force else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return json.loads(done.stdout)


@flow(name="ethogram-loop")
def loop(force: bool = False) -> str:
    """Take a turn, and show what was decided and why."""
    decision = turn(force)
    lines = [f"# {decision['answer']}", *(f"- {reason}" for reason in (*decision["triggers"], *decision["reasons"]))]
    create_markdown_artifact(key="ethogram-decision", markdown="\n".join(lines))
    return decision["answer"]


if __name__ == "__main__":
    if "once" in sys.argv[1:]:
        loop()
    else:
        loop.serve(name="every-six-hours", cron="17 */6 * * *")
