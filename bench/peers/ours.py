"""This project's worker as it is deployed; only its topics' names come from two prefixes."""

import os

from agents import worker
from bench.stage import catalog_of
from deployment.catalog import Catalog


def _catalog(prefix: str, *, partitions: int | None = None) -> Catalog:
    return catalog_of(os.environ["BENCH_INPUTS"], prefix, partitions or 16)


def main() -> None:
    worker.load_catalog = _catalog  # type: ignore[assignment, attr-defined]
    worker.main()


if __name__ == "__main__":
    main()
