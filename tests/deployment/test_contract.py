"""The page of the wire contract says what the models say."""

from pathlib import Path

from deployment.contract import page

PAGE = Path(__file__).parents[2] / "docs" / "contract.md"


def test_the_page_is_fresh():
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m deployment.contract"
