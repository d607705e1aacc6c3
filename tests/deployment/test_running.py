"""The page about running it lists the metrics that there are."""

import re
from pathlib import Path

from deployment.metrics import REGISTRY

PAGE = Path(__file__).parents[2] / "docs" / "running.md"


def test_every_metric_is_listed_and_no_other():
    served = {
        metric.name + ("_total" if metric.type == "counter" else "")
        for metric in REGISTRY.collect()
        if metric.name.startswith("realname_")
    }
    listed = set(re.findall(r"^\| `(realname_\w+)` \|", PAGE.read_text("utf-8"), re.MULTILINE))
    assert listed == served
