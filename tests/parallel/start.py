"""`start.py CLUSTER LOG_DIR COMMAND...` launches a command as workers. Not a test itself.

CLUSTER: the fields of `Cluster` that differ from its defaults, as JSON; `collective` too.
"""

import json
import sys
from pathlib import Path

from latte_cli.core.errors import LatteError
from latte_cli.core.parallel.commands import Cluster
from latte_cli.core.parallel.launch import launch

cluster = json.loads(sys.argv[1])
collective = cluster.pop("collective", True)
if "rank_table" in cluster:
    cluster["rank_table"] = Path(cluster["rank_table"])
try:
    sys.exit(
        launch(
            [sys.executable, *sys.argv[3:]],
            Cluster(**cluster),
            log_dir=Path(sys.argv[2]),
            collective=collective,
        )
    )
except LatteError as error:
    sys.exit(str(error))
