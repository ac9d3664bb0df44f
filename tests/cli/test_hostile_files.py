import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "hostile" / "campaign.py"


@pytest.mark.slow
def test_damaged_sidecars_give_a_one_line_error_and_leave_no_files() -> None:
    """`make campaign` runs the other cases."""
    command = [sys.executable, str(SCRIPT), "--only", "sidecar"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
