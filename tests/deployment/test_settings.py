"""Settings: where they are read from, what is said when they are wrong, and what is never said."""

import base64
import os
import ssl
from pathlib import Path

import pytest

from deployment.settings import (
    SECRETS,
    Settings,
    SettingsError,
    load_settings,
    table,
)

KEY = "00112233445566778899aabbccddeeff"
DOCS = Path(__file__).parents[2] / "docs" / "settings.md"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch, tmp_path):
    for name in os.environ:
        if name.upper().startswith("REALNAME_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def env(monkeypatch):
    def put(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(f"REALNAME_{name}", str(value))

    return put


def problems(**arguments):
    with pytest.raises(SettingsError) as caught:
        load_settings(**arguments)
    return {one.name: one for one in caught.value.problems}


def test_nothing_has_to_be_set():
    settings = load_settings()
    assert settings.embedded_broker
    assert settings.embedded_database
    assert settings.home == Path(".realname")
    assert (settings.port_of("worker"), settings.port_of("projector")) == (6066, 6067)
    assert (settings.session_timeout_ms, settings.transaction_timeout_ms) == (6_000, 10_000)
    assert settings.kafka_options() == {"security_protocol": "PLAINTEXT"}


def test_the_settings_that_clients_share(env):
    env(
        BROKERS="kafka-1:9092, [::1]:9093",
        DATABASE="postgresql://u:p@db/realname",
        PERSON_SECRET=KEY,
        CODE_KEYS=f"1:{KEY}, 255:{KEY * 2}",
    )
    settings = load_settings()
    assert settings.brokers == "kafka-1:9092,[::1]:9093"
    assert settings.database == "postgresql://u:p@db/realname"
    assert settings.person_secret == bytes.fromhex(KEY)
    assert settings.code_keys == {1: bytes.fromhex(KEY), 255: bytes.fromhex(KEY * 2)}
    assert not settings.embedded_broker
    assert not settings.embedded_database


@pytest.mark.parametrize("write", [bytes.hex, lambda key: base64.b64encode(key).decode()])
def test_the_sealing_key_in_hexadecimal_or_base64(env, write):
    env(SEALING_KEY=write(bytes(range(32))))
    assert load_settings().sealing_key == bytes(range(32))


def test_which_source_goes_first(env, tmp_path):
    (tmp_path / "realname.toml").write_text('topic_prefix = "file-"\nlog_level = "error"\n')
    assert load_settings().topic_prefix == "file-"
    env(TOPIC_PREFIX="env-")
    assert load_settings().topic_prefix == "env-"
    assert load_settings(topic_prefix="argument-").topic_prefix == "argument-"
    assert load_settings(topic_prefix=None).topic_prefix == "env-"
    assert load_settings().log_level == "error"


def test_an_empty_variable_is_not_set(env):
    env(BROKERS="", TOPIC_PREFIX="", PARTITIONS="", DATABASE_FILE="", CONFIG="")
    assert load_settings().embedded_broker


def test_one_port_for_the_process_goes_before_those_of_its_kind(env):
    env(METRICS_PORT=7000, WORKER_METRICS_PORT=7001)
    assert load_settings().port_of("worker") == 7000


@pytest.mark.parametrize("name", SECRETS)
def test_every_secret_from_a_file(env, tmp_path, name):
    values = {
        "database": "postgresql://u:p@db/realname",
        "code_keys": f"1:{KEY}",
        "sealing_key": KEY * 2,
        "kafka_sasl_password": "geheim",
    }
    value = values.get(name, KEY)
    path = tmp_path / "secret"
    path.write_text(value + "\n")
    by_value = load_settings(**{name: value})
    env(**{f"{name.upper()}_FILE": path})
    assert getattr(load_settings(), name) == getattr(by_value, name) is not None


def test_secret_files_named_in_the_toml_file_stand_beside_it(env, tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "person").write_text(KEY)
    (tmp_path / "etc" / "realname.toml").write_text('person_secret_file = "person"\n')
    env(CONFIG=tmp_path / "etc" / "realname.toml")
    assert load_settings().person_secret == bytes.fromhex(KEY)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("BROKERS", "kafka", "'kafka' is not host:port"),
        ("BROKERS", "kafka:0", "'kafka:0' is not host:port"),
        ("BROKERS", "kafka:99999", "is not host:port"),
        ("BROKERS", "a:1,,b:2", "'' is not host:port"),
        ("DATABASE", "mysql://db", "begins with postgresql://"),
        ("PERSON_SECRET", "xyz", "not hexadecimal"),
        ("PERSON_SECRET", "abcd", "2 bytes long, at least 16"),
        ("CODE_KEYS", KEY, "id:hex"),
        ("CODE_KEYS", f"256:{KEY}", "255"),
        ("CODE_KEYS", f"1:{KEY},1:{KEY}", "1 stands twice"),
        ("CODE_KEYS", "1:abcd", "at least 16"),
        ("SEALING_KEY", "abcd", "3 bytes long, an X25519 public key has 32"),
        ("SEALING_KEY", "?", "neither base64 nor hexadecimal"),
        ("TOPIC_PREFIX", "a b", "pattern"),
        ("PARTITIONS", "0", "greater than or equal to 1"),
        ("METRICS_PORT", "70000", "65535"),
        ("LOG_LEVEL", "loud", "'debug'"),
        ("KAFKA_SECURITY_PROTOCOL", "TLS", "'SSL'"),
    ],
)
def test_a_wrong_value_is_named_with_a_mend(env, name, value, words):
    env(**{name: value})
    one = problems()[f"REALNAME_{name}"]
    assert words in one.what
    assert one.mend.startswith("for example: ")


def test_all_problems_are_told_at_once_and_no_secret(env, tmp_path):
    (tmp_path / "realname.toml").write_text('colour = "red"\nbroker = "a:1"\nhome = 3\n')
    env(
        PERSON_SECRET="geheim1",
        CODE_KEYS="1:geheim2",
        DATABASE="geheim3://user:geheim4@db",
        SEALING_KEY_FILE=tmp_path / "none",
        BROKER="a:1",
        WHATEVER="geheim5",
        LOG_LEVEL="loud",
    )
    with pytest.raises(SettingsError) as caught:
        load_settings()
    text = str(caught.value)
    assert "geheim" not in text
    assert len(caught.value.problems) == 9
    assert "REALNAME_BROKER: there is no such setting; did you mean REALNAME_BROKERS?" in text
    assert "realname.toml: broker: there is no such setting; did you mean brokers?" in text
    assert "WHATEVER" not in text  # resembles no setting: not ours to judge
    assert "REALNAME_SEALING_KEY_FILE" in text
    assert "No such file" in text


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("brokers = [", "not TOML (at "),
        ('person_secret = "geheim', "not TOML (at "),
        (f'person_secret = "{KEY}"\nperson_secret_file = "x"', "is set too"),
        ("person_secret_file = 3", "there is no such setting"),
    ],
)
def test_a_wrong_file(tmp_path, toml, words):
    (tmp_path / "realname.toml").write_text(toml)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert words in str(caught.value)
    assert "geheim" not in str(caught.value)


def test_a_named_file_must_be_there(env, tmp_path):
    env(CONFIG=tmp_path / "none.toml")
    assert "No such file" in problems()["REALNAME_CONFIG"].what


def test_a_secret_given_twice_or_empty(env, tmp_path):
    path = tmp_path / "secret"
    path.write_text("\n")
    env(PERSON_SECRET=KEY, PERSON_SECRET_FILE=path)
    with pytest.raises(SettingsError, match="REALNAME_PERSON_SECRET is set too") as caught:
        load_settings()
    assert "is empty" in str(caught.value)


def test_sasl_and_tls(env, tmp_path):
    env(BROKERS="a:1", KAFKA_SECURITY_PROTOCOL="sasl_ssl")
    assert "REALNAME_KAFKA_SASL_USERNAME" in problems()["together"].what
    env(KAFKA_SASL_USERNAME="u", KAFKA_SASL_PASSWORD="p")
    options = load_settings().kafka_options()
    assert isinstance(options.pop("ssl_context"), ssl.SSLContext)
    assert options == {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "u",
        "sasl_plain_password": "p",
    }
    env(KAFKA_SSL_CERTFILE=tmp_path / "cert")
    assert "go together" in problems()["together"].what


def test_security_is_for_brokers_of_ones_own(env):
    env(KAFKA_SECURITY_PROTOCOL="SSL")
    assert "REALNAME_BROKERS" in problems()["together"].what


def test_a_setting_that_a_command_needs():
    with pytest.raises(SettingsError, match="REALNAME_BROKERS: not set"):
        load_settings().require("brokers")
    load_settings(brokers="a:1").require("brokers")


def test_no_secret_in_any_text_of_the_settings(env):
    env(
        PERSON_SECRET=KEY,
        CODE_KEYS=f"1:{KEY}",
        DATABASE="postgresql://u:geheim@db",
        KAFKA_SASL_PASSWORD="geheim",
        SEALING_KEY=KEY * 2,
    )
    settings = load_settings()
    for text in (repr(settings), str(settings), str(settings.shown())):
        assert "geheim" not in text
        assert KEY not in text
        assert repr(bytes.fromhex(KEY)) not in text
    assert settings.shown()["person_secret"] == "(set)"
    assert settings.shown()["topic_prefix"] == ""


def test_settings_do_not_change():
    with pytest.raises(ValueError, match="frozen"):
        load_settings().topic_prefix = "x"


def test_every_setting_is_described():
    for name, entry in Settings.model_fields.items():
        assert entry.description, name
        assert entry.examples, name


def test_the_docs_hold_the_table():
    assert table() in DOCS.read_text(encoding="utf-8"), "python -m deployment.settings"
