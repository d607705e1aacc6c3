"""docs/rules.md says what is so."""

from pathlib import Path

import pytest

from rules.docs import ALWAYS_FIRST, LADDERS, PARTS, fresh
from schemas.commands import COMMANDS
from schemas.reasons import REASONS
from tests.rules.test_ladders import CASES

PAGE = Path(__file__).parents[2] / "docs" / "rules.md"


def test_the_page_is_fresh() -> None:
    text = PAGE.read_text("utf-8")
    assert fresh(text) == text
    for code, reason in REASONS.items():
        assert f"| `{code}` |" in text
        assert reason.zh in text
        assert reason.en in text


def test_what_is_stale_is_made_anew() -> None:
    text = PAGE.read_text("utf-8")
    for current in ("| `too_many` | employer |", "[*] --> none", "| `hire.refuse` | person |"):
        stale = text.replace(current, "")
        assert fresh(stale) == text != stale
    for name in PARTS:
        with pytest.raises(ValueError, match="markers"):
            fresh(text.replace(f"<!-- {name} -->", ""))


@pytest.mark.parametrize("command_type", COMMANDS)
def test_a_ladder_is_as_tested(command_type: str) -> None:
    """The tables of the page and of the tests are two, so that neither is right by itself."""
    documented = LADDERS[command_type].codes
    tested = [
        [code for code, _ in ladder]
        for name, (_, ladder) in CASES.items()
        if name.split()[0] == command_type
    ]
    for codes in tested:
        asked = codes[1:] if codes[0] in ALWAYS_FIRST else codes
        rest = iter(documented)
        assert all(code in rest for code in asked), f"another order: {asked}"
    assert {code for codes in tested for code in codes} - {"not_authorized"} == (
        set(documented) - {"not_authorized"}
    )
