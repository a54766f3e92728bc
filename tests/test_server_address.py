"""Where a server is, in all forms people write it, and where a text must not go."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnimemory.errors import ConfigError
from omnimemory.model_servers.address import Address, base_address, ollama_address, require_allowed
from omnimemory.model_servers.exchange import Terms

# As in Ollama's own tests of OLLAMA_HOST, but for what a client must see otherwise (see address.py).
HOSTS = {
    "empty": ("", "http://127.0.0.1:11434"),
    "only-address": ("1.2.3.4", "http://1.2.3.4:11434"),
    "only-port": (":1234", "http://127.0.0.1:1234"),
    "address-and-port": ("1.2.3.4:1234", "http://1.2.3.4:1234"),
    "hostname": ("example.com", "http://example.com:11434"),
    "hostname-and-port": ("example.com:1234", "http://example.com:1234"),
    "capitals": ("Example.COM", "http://example.com:11434"),
    "ipv6": ("[::1]", "http://[::1]:11434"),
    "ipv6-without-brackets": ("::1", "http://[::1]:11434"),
    "ipv6-and-port": ("[::1]:1337", "http://[::1]:1337"),
    "any-ipv4": ("0.0.0.0", "http://127.0.0.1:11434"),
    "any-ipv4-and-port": ("0.0.0.0:1234", "http://127.0.0.1:1234"),
    "any-ipv6": ("[::]:1234", "http://[::1]:1234"),
    "spaces": (" 1.2.3.4 ", "http://1.2.3.4:11434"),
    "quotes": ('"1.2.3.4"', "http://1.2.3.4:11434"),
    "spaces-and-quotes": (" ' 1.2.3.4 ' ", "http://1.2.3.4:11434"),
    "http": ("http://1.2.3.4", "http://1.2.3.4"),
    "http-and-port": ("http://1.2.3.4:4321", "http://1.2.3.4:4321"),
    "https": ("https://1.2.3.4", "https://1.2.3.4"),
    "https-and-port": ("HTTPS://1.2.3.4:4321", "https://1.2.3.4:4321"),
    "path": ("https://example.com/ollama", "https://example.com/ollama"),
    "slash": ("http://127.0.0.1:11434/", "http://127.0.0.1:11434"),
    "ollama-com": ("ollama.com", "https://ollama.com"),
    "mapped": ("[::ffff:127.0.0.1]:80", "http://127.0.0.1"),
}
WRONG = {
    "port-zero": ":0",
    "port-too-large": ":66000",
    "port-negative": ":-1",
    "port-word": "localhost:http",
    "ftp": "ftp://localhost",
    "two-dots": "a..b",
    "odd-ipv4": "2130706433",
    "short-ipv4": "127.1",
    "hex-ipv4": "0x7f000001",
    "space-inside": "local host",
    "line-break": "localhost\n.evil",
    "query": "http://localhost/?a=b",
    "fragment": "http://localhost/#a",
}


@pytest.mark.parametrize(("text", "url"), HOSTS.values(), ids=HOSTS)
def test_every_form_of_ollama_host_is_understood(text, url):
    assert ollama_address(text).url == url


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_what_is_no_address_is_an_error_that_repeats_it(text):
    with pytest.raises(ConfigError) as caught:
        ollama_address(text)
    assert text.strip()[:10].encode("unicode_escape").decode() in str(caught.value)


def test_a_password_in_an_address_is_refused_and_not_repeated():
    with pytest.raises(ConfigError) as caught:
        ollama_address("http://me:hunter2@localhost")
    assert "hunter2" not in str(caught.value)


@given(text=st.text(max_size=40))
def test_any_text_is_an_address_or_a_plain_error(text):
    try:
        address = ollama_address(text)
    except ConfigError:
        return
    assert ollama_address(address.url) == address


BASES = {
    "without-path": "http://127.0.0.1:8080",
    "with-slash": "http://127.0.0.1:8080/",
    "v1": "http://127.0.0.1:8080/v1",
    "v1-slash": "http://127.0.0.1:8080/v1/",
    "endpoint": "http://127.0.0.1:8080/v1/embeddings",
}


@pytest.mark.parametrize("text", BASES.values(), ids=BASES)
def test_a_base_url_has_its_v1_once(text):
    assert base_address(text).url == "http://127.0.0.1:8080/v1"


def test_a_path_of_its_own_is_kept():
    assert base_address("https://example.com/openai/v3/").url == "https://example.com/openai/v3"


def test_a_base_url_names_its_scheme():
    with pytest.raises(ConfigError, match="http://"):
        base_address("127.0.0.1:8080")


@pytest.mark.parametrize("text", ["127.0.0.1", "127.8.8.8", "localhost", "[::1]", "0.0.0.0"])
def test_this_machine_needs_no_permission(text):
    require_allowed(ollama_address(text), allow_remote=False)


@pytest.mark.parametrize("text", ["192.168.1.2", "example.com", "localhost.example.com", "127.0.0.1.example.com"])
def test_another_machine_does(text):
    with pytest.raises(ConfigError, match="allow_remote"):
        require_allowed(ollama_address(text), allow_remote=False)
    require_allowed(ollama_address(text), allow_remote=True)


@pytest.mark.parametrize("text", ["169.254.169.254", "[fe80::1]", "[fd00:ec2::254]", "[::ffff:169.254.169.254]"])
def test_addresses_of_cloud_credentials_are_never_asked(text):
    with pytest.raises(ConfigError, match="link-local"):
        require_allowed(ollama_address(text), allow_remote=True)


def test_a_key_does_not_cross_a_network_in_the_clear():
    with pytest.raises(ConfigError, match="https"):
        Terms(Address("http", "example.com", 80), "secret-key")
    Terms(Address("https", "example.com", 443), "secret-key")
    Terms(Address("http", "127.0.0.1", 80), "secret-key")


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel"])
def test_a_key_that_cannot_be_one_is_refused_and_not_repeated(key):
    with pytest.raises(ConfigError) as caught:
        Terms(Address("https", "example.com", 443), key)
    assert key not in str(caught.value)


def test_a_key_is_in_no_representation():
    assert "secret-key" not in repr(Terms(Address("https", "example.com", 443), "secret-key"))
