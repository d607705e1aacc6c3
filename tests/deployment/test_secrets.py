"""The secrets of an embedded deployment: made once, never replaced, never shown."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from deployment.sealing import open_sealed, seal
from deployment.secrets import FILE, SecretsError, ensure_secrets, with_secrets
from deployment.settings import Settings


def test_made_once_and_for_the_owner_only(tmp_path):
    home = tmp_path / "a" / "home"
    made = ensure_secrets(home)
    assert ensure_secrets(home) == made
    assert (home / FILE).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in home.iterdir()] == [FILE]
    assert len(made.person_secret) == 32
    assert list(made.code_keys) == [1]
    assert open_sealed(made.sealing_private_key, seal(made.sealing_key, {"a": 1})) == {"a": 1}
    assert ensure_secrets(tmp_path / "b").person_secret != made.person_secret


def test_made_once_by_many_at_once(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda _: ensure_secrets(tmp_path).person_secret, range(16)))
    assert len(made) == 1


def test_not_shown(tmp_path):
    made = ensure_secrets(tmp_path)
    kept = json.loads((tmp_path / FILE).read_text())
    assert bytes.fromhex(kept["person_secret"]) == made.person_secret
    assert repr(made) == "Secrets()"


@pytest.mark.parametrize("text", ["", "{}", '{"person_secret": "geheim"}', '{"person_secret": 3}'])
def test_damaged_secrets_are_not_replaced(tmp_path, text):
    path = tmp_path / FILE
    path.touch(mode=0o600)
    path.write_text(text)
    with pytest.raises(SecretsError, match="damaged") as caught:
        ensure_secrets(tmp_path)
    assert "geheim" not in str(caught.value)
    assert path.read_text() == text


def test_secrets_that_others_can_read(tmp_path):
    ensure_secrets(tmp_path)
    (tmp_path / FILE).chmod(0o644)
    with pytest.raises(SecretsError, match="chmod 600"):
        ensure_secrets(tmp_path)


def test_only_what_is_unset_of_an_embedded_deployment_is_filled_in(tmp_path):
    own = b"x" * 16
    embedded = with_secrets(Settings(home=tmp_path, person_secret=own))
    assert embedded.person_secret == own
    assert embedded.code_keys == ensure_secrets(tmp_path).code_keys
    other = Settings(home=tmp_path / "other", brokers="a:1")
    assert with_secrets(other) == other
    assert not (tmp_path / "other").exists()
