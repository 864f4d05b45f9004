from __future__ import annotations

import pytest

from ssmd_common.config.kalshi_key import kalshi_credentials
from ssmd_common.config.testing import environment, feed
from ssmd_common.errors import ConfigError, CredentialError

KEYS = {"kalshi": {"fields": ["api_key", "private_key"], "source": "env:A,B"}}


def test_without_keys_the_two_variables_apply() -> None:
    environ = {"KALSHI_API_KEY": "id", "KALSHI_PRIVATE_KEY": "pem"}
    key = kalshi_credentials(feed(), environment(), environ)

    assert key is not None
    assert key.api_key.get_secret_value() == "id"
    assert "pem" not in repr(key)
    with pytest.raises(
        CredentialError, match=r"variable KALSHI_PRIVATE_KEY is not set \(export KALSHI_PRIVATE_KEY"
    ):
        kalshi_credentials(feed(), environment(), {"KALSHI_API_KEY": "id"})


def test_the_environments_key_is_found_by_the_feeds_name_or_alone() -> None:
    environ = {"A": "id", "B": "pem"}
    another = {"other": {"fields": ["x"], "source": "env:X"}}
    alone = environment(keys={"main": KEYS["kalshi"]})

    assert kalshi_credentials(feed(), environment(keys=KEYS | another), environ)
    assert kalshi_credentials(feed(), alone, environ)
    with pytest.raises(ConfigError, match=r"keys: holds main, other; none is named kalshi"):
        kalshi_credentials(feed(), environment(keys={"main": KEYS["kalshi"]} | another), environ)
    with pytest.raises(ConfigError, match=r"keys.other.fields: needs the fields api_key and private_key, has x"):
        kalshi_credentials(feed(), environment(keys=another), environ)


def test_a_key_that_is_not_required_may_be_missing() -> None:
    optional = {"kalshi": KEYS["kalshi"] | {"required": False}}
    assert kalshi_credentials(feed(), environment(keys=optional), {}) is None
    with pytest.raises(CredentialError, match="variable A is not set"):
        kalshi_credentials(feed(), environment(keys=KEYS), {})


@pytest.mark.parametrize(
    "key_id", ["hidden\x01", "hidden\nhidden", "hid den", "hiddené", "-----BEGIN hidden", "h" * 999]
)
def test_an_id_no_header_can_hold_is_refused_without_being_shown(key_id: str) -> None:
    with pytest.raises(CredentialError, match=r"env:A,B: api_key is no id of a key \(give the id alone") as caught:
        kalshi_credentials(feed(), environment(keys=KEYS), {"A": key_id, "B": "pem"})
    assert "hid" not in str(caught.value)
