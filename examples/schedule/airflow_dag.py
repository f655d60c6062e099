"""The loop as an Airflow DAG: a turn every six hours, one at a time, then where it stands.

Copy it to the DAGs folder. Tasks call the command line, so Airflow's environment need not be ours; the variables
`ethogram_bin` and `ethogram_project` say where the program and the project are.
"""

from datetime import UTC, datetime, timedelta

from airflow import DAG
from airflow.providers.standard.operators.bash import BashOperator

COMMANDS = {"turn": "ethogram loop run --once --json", "status": "ethogram loop status --json"}
PLACE = "export PATH={{ var.value.ethogram_bin }}:$PATH ETHOGRAM_PROJECT={{ var.value.ethogram_project }} && "

with DAG(
    dag_id="ethogram_loop",
    schedule="17 */6 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
) as dag:
    turn, status = (BashOperator(task_id=name, bash_command=PLACE + command) for name, command in COMMANDS.items())
    turn >> status
