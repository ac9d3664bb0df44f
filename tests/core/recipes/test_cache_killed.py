import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "endurance" / "cache.py"


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "rounds"), [("numpy", 4), ("mindrecord", 2)])
def test_a_killed_and_continued_run_gives_the_same_cache(kind: str, rounds: int) -> None:
    command = [sys.executable, str(SCRIPT), "--type", kind, "--kills", str(rounds), "--corrupt-every", "10"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{kind}: {rounds} runs killed after " in done.stdout
