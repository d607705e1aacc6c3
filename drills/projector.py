"""A projector as it is deployed, with the hook of drills (`python -m drills.projector`).

DRILL_PLANT=name in the environment: an error of `drills.planted`.
"""

from __future__ import annotations

import os


def main() -> None:
    """Apply the hook, then be a projector."""
    from projector import main as projector

    if spec := os.environ.get("DRILL_PLANT"):
        from drills import planted

        planted.in_projector(spec)
    projector.main()


if __name__ == "__main__":
    main()
