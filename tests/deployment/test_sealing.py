"""The sealed envelope opens for its key alone, and only as it was sealed."""

import json
from base64 import b64decode, b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.public import PrivateKey, PublicKey, SealedBox

from deployment.sealing import CannotOpen, make_key_pair, open_sealed, seal

KEYS = make_key_pair()
DETAILS = {"name": "张三", "id_number": "11010519491231002X"}

texts = st.text(st.characters(codec="utf-8"))
details_of_any_kind = st.dictionaries(
    texts,
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
        lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
        max_leaves=8,
    ),
)


@given(details_of_any_kind)
def test_what_was_sealed_comes_out(details: dict[str, object]) -> None:
    assert open_sealed(KEYS.private, seal(KEYS.public, details)) == details


def test_the_text_is_standard_base64_and_shows_nothing() -> None:
    text = seal(KEYS.public, DETAILS)
    sealed = b64decode(text, validate=True)
    assert b64encode(sealed).decode() == text
    for hidden in ("张三", "11010519491231002X", "id_number"):
        assert hidden.encode() not in sealed
    assert seal(KEYS.public, DETAILS) != text, "equal details must not look equal"


def test_any_client_of_libsodium_can_seal() -> None:
    sealed = SealedBox(PublicKey(KEYS.public)).encrypt(json.dumps(DETAILS, indent=1).encode())
    assert open_sealed(KEYS.private, b64encode(sealed).decode()) == DETAILS


@given(st.data())
def test_a_change_of_any_one_bit_is_noticed(data: st.DataObject) -> None:
    sealed = bytearray(b64decode(seal(KEYS.public, DETAILS)))
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CannotOpen):
        open_sealed(KEYS.private, b64encode(sealed).decode())


@given(st.data())
def test_a_part_of_it_does_not_open(data: st.DataObject) -> None:
    sealed = b64decode(seal(KEYS.public, DETAILS))
    length = data.draw(st.integers(0, len(sealed) - 1))
    with pytest.raises(CannotOpen):
        open_sealed(KEYS.private, b64encode(sealed[:length]).decode())


def test_another_key_does_not_open_it() -> None:
    with pytest.raises(CannotOpen):
        open_sealed(make_key_pair().private, seal(KEYS.public, DETAILS))
    with pytest.raises(CannotOpen):
        open_sealed(KEYS.public, seal(KEYS.public, DETAILS))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"text"', b"NaN", b"\xff", b"[" * 100_000])
def test_what_is_no_json_object_is_refused(content: bytes) -> None:
    sealed = SealedBox(PublicKey(KEYS.public)).encrypt(content)
    with pytest.raises(CannotOpen):
        open_sealed(KEYS.private, b64encode(sealed).decode())


@pytest.mark.parametrize("text", ["", "=", "A", "工", "AAAA", "not base64!"])
def test_what_is_no_sealed_text_is_refused(text: str) -> None:
    with pytest.raises(CannotOpen):
        open_sealed(KEYS.private, text)


@pytest.mark.parametrize("key", [b"", b"x" * 31, b"x" * 33])
def test_a_key_of_another_length_is_refused(key: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        seal(key, DETAILS)
    with pytest.raises(ValueError, match="32 bytes"):
        open_sealed(key, seal(KEYS.public, DETAILS))


def test_a_key_pair_belongs_together_and_does_not_show_its_private_half() -> None:
    keys = make_key_pair()
    assert bytes(PrivateKey(keys.private).public_key) == keys.public
    assert keys != make_key_pair()
    assert repr(keys.private) not in repr(keys)
