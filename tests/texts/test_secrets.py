import pytest

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.texts import secrets


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("postgresql://me:word@host/db", "postgresql://me:***@host/db"),
        ("mysql+pymysql://me:w:o/r@d@host:3306/db", "mysql+pymysql://me:***@host:3306/db"),
        ("redis://:word@host", "redis://:***@host"),
        ("https://ghp_abc@github.com/a", "https://***@github.com/a"),
        ("https://host/a?X-Goog-Signature=abc&x=1", "https://host/a?X-Goog-Signature=***&x=1"),
        ("https://host/a?sv=1&sig=a%2Fb", "https://host/a?sv=1&sig=***"),
        ("postgresql://host/db?user=me&password=word", "postgresql://host/db?user=me&password=***"),
        ("'--a=x://me:word@host/db' --seed=1", "'--a=x://me:***@host/db' --seed=1"),
        ("--a=x://u:one@h x://u:two@h", "--a=x://u:***@h x://u:***@h"),
        ("grpc://10.0.0.1:8470,10.0.0.2:8470", "grpc://10.0.0.1:8470,10.0.0.2:8470"),
        ("gs://bucket/a@b:c", "gs://bucket/a@b:c"),
        ("sqlite:///a.db", "sqlite:///a.db"),
        ("why? me@home", "why? me@home"),
    ],
)  # fmt: skip
def test_passwords_tokens_and_signatures_are_hidden(text, printed):
    assert secrets.masked(text) == printed
    assert secrets.masked(printed) == printed


@pytest.mark.parametrize("part", ["x", "x://u:", "?sig", ";", "://", "a://b:c@", "https://x", "?token="])
def test_long_texts_take_no_long_time(part):
    assert len(secrets.masked("?" + part * (200_000 // len(part)))) > 1


def test_messages_of_other_programs_lose_the_secret_however_they_quote_it():
    address = "postgresql://me:wo%40rd@host/db?sslpassword=hush-hush"
    for message in (address, "password wo@rd of me", "wo%40rd", "hush-hush", f"at {address}, port x"):
        hidden = secrets.without_secret(message, address)
        assert not [part for part in ("wo@rd", "wo%40rd", "hush") if part in hidden]
        assert "***" in hidden


def test_an_option_may_name_an_environment_variable(monkeypatch):
    monkeypatch.setenv("STORE", "postgresql://me:word@host/db")
    assert secrets.revealed("env:STORE", "study_storage") == "postgresql://me:word@host/db"
    assert secrets.revealed("sqlite:///a", "study_storage") == "sqlite:///a"
    monkeypatch.delenv("STORE")
    with pytest.raises(UserError, match=r"--study_storage=env:STORE: the environment variable STORE is not set"):
        secrets.revealed("env:STORE", "study_storage")
