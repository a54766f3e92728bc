"""What is told by looks: generated words, logins, words that only the embedding must not see."""

import random
import string

import pytest

from omnimemory.memory import Memory
from omnimemory.sources.redaction import Redactor
from omnimemory.sources.redaction.generated import holds_generated, is_generated, looks_generated
from omnimemory.sources.redaction.quarantine import MASKED

ALNUM = string.ascii_letters + string.digits


def drawn(length: int, seed: int, alphabet: str = ALNUM) -> str:
    rand = random.Random(f"{length} {seed}")
    return "".join(rand.choice(alphabet) for _ in range(length))


def generated(length: int, seed: int = 0) -> str:
    """Return a word that is recognised; one in twenty random ones is not."""
    return next(word for number in range(99) if is_generated(word := drawn(length, 100 * seed + number)))


@pytest.mark.parametrize("length", [8, 10, 16, 24, 32, 64])
def test_nine_in_ten_random_words_are_recognised(length):
    assert sum(is_generated(drawn(length, seed)) for seed in range(400)) >= 0.9 * 400


@pytest.mark.parametrize("length", [24, 32, 40, 64])
def test_long_hexadecimal_numbers_look_generated_but_are_told_apart(length):
    number = drawn(length, 1, "0123456789abcdef")
    assert looks_generated(number)
    assert not is_generated(number)


ORDINARY = [
    "containers", "Documents", "README", "configuration", "kubernetes", "PostgreSQL", "JavaScript", "TypeScript",
    "MyProjectName", "camelCaseWords", "SHA256withRSA", "Ubuntu2204", "x86_64", "arm64v8", "python3", "node20",
    "nginx1", "fedora39", "com.example.MyApplication", "libstdc++6", "my-service-account-2", "backups-2024-11-20-db1",
    "release_candidate_3", "2024-11-20T10:30:00Z", "192.168.178.24", "10.0.0.0/16", "v1.28.3", "1.2.3-beta.4",
    "en_US.UTF-8", "application/json", "Content-Type", "text/html", "image.jpeg", "archive.tar.gz", "stable-slim",
    "docker-compose.override.yml", "src/main/java/com/example/App.java", "feature/JIRA-1234-fix-login",
    "aaaaaaaaaaaaaaaa", "0x7fff5fbff8c0", "00:1a:2b:3c:4d:5e", "123456789012", "eu-central-1a", "t3.micro",
    "m5.2xlarge", "i-0abcd1234ef567890", "Lorem_ipsum_dolor_sit", "HTTPServer", "XMLHttpRequest", "getElementById",
    "IPv4Address", "usr/local/bin", "en0", "wlp3s0", "enp0s31f6",
]  # fmt: skip


@pytest.mark.parametrize("word", ORDINARY)
def test_ordinary_words_are_not(word):
    assert not holds_generated(word)
    assert Redactor().command(f"frob -t {word} -n {word} {word}").counts == {}


@pytest.mark.parametrize(
    "line",
    [
        "frob -t {} up", "frob -k{} up", "frob run -s {} -v", "frob auth {}", "frob login https://example.org {}",
        "frob register --name ann {}", "sudo frob -a '{}'", "ssh h \"frob -p '{}' x\"", "frob [a|add] -t {}",
        "for h in a; do frob -K {}; done",
        "echo {} | frob set", "frob -c ann:{} up", "frob ann:{}@host", "frob corp/ann:{}@10.0.0.1", "frob --otp {}",
        "frob corp/ann:{} -x", "frob -U 'ann%{}'", "frob wifi connect home password {}", "mysql -u ann -p {} shop",
        "frob -a|-t {} up",
    ],
)  # fmt: skip
@pytest.mark.parametrize("seed", range(3))
def test_a_generated_value_goes_where_secrets_stand(line, seed):
    word = generated(16, seed)
    found = Redactor().command(line.format(word))
    before, after = line.format("\0").split("\0")
    assert found.text.startswith(before)
    assert found.text.endswith(after)
    assert word not in found.text
    assert sum(found.counts.values()) == 1


@pytest.mark.parametrize(
    "line",
    [
        "frob -n {} up", "frob {}", "frob --id {}", "git checkout {}", "frob -o {}", "grep -t {} file", "cat {}",
        "frob -t ./{} x", "frob -t https://example.org/{} x", "echo {}", "echo {} | base64 -d", "echo {} | grep x",
        "npm install npm:{}@1.2", "docker pull image:{}@sha256:00", "frob login -n {}",
        "echo {} | jose b64 dec -i-",
    ],
)  # fmt: skip
def test_elsewhere_it_stays(line):
    text = line.format(generated(16))
    assert Redactor().command(text).text == text


@pytest.mark.parametrize(
    "line",
    [
        "docker run -u 1000:1000 x", "chown ann:staff x", "frob -u ann:staff", "scp ann@host:path x", "rsync a host:b",
        "docker pull nginx:latest", "frob host:8080", "frob 10.0.0.1:8080@eth0", "mvn org.example:artifact:1.0@jar",
        "npm i alias@npm:other@1.2.3", "frob user:v1.2.3@x", "socat -u TCP4-LISTEN:3334,reuseaddr,fork x",
    ],
)  # fmt: skip
def test_colons_are_not_passwords_by_themselves(line):
    assert Redactor().command(line).text == line


# Masked for the model only


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("frob --id {}", "frob --id {mask}"),
        ("frob --id={} x", "frob --id={mask} x"),
        ("frob '{}' x", "frob '{mask}' x"),
        ("frob NAME={}", "frob NAME={mask}"),
        ('ssh h "frob -n {}"', 'ssh h "frob -n {mask}"'),
        ("frob {} {}", "frob {mask} {mask}"),
        ("frob <<< {}", "frob <<< {mask}"),
        ("cat /srv/{}/x", None),
        ("curl https://example.org/{}", None),
        ("{} --help", None),
    ],
)
@pytest.mark.parametrize("alphabet", [ALNUM, "0123456789abcdef"], ids=["mixed", "hexadecimal"])
def test_a_long_random_word_is_masked_in_what_is_embedded(line, shown, alphabet):
    word = next(word for seed in range(99) if looks_generated(word := drawn(28, seed, alphabet)))
    text = line.replace("{}", word)
    assert Redactor().command(text).text == text, "what is redacted need not be masked"
    assert Redactor().embeddable(text) == (text if shown is None else shown.replace("{mask}", MASKED))


def test_a_masked_text_is_masked_once_and_placeholders_stay():
    text = f"frob --id {generated(28)} -p [REDACTED:flag]"
    shown = Redactor().embeddable(text)
    assert shown == f"frob --id {MASKED} -p [REDACTED:flag]"
    assert Redactor().embeddable(shown) == shown


def test_short_or_ordinary_words_are_not_masked():
    for text in ("git push origin main", "ls -la /usr/share/doc/some-very-long-package-name", f"frob {generated(12)}"):
        assert Redactor().embeddable(text) == text


def test_the_model_sees_the_masked_form_and_the_store_keeps_the_word(settings, tmp_path):
    word = generated(28)
    history = tmp_path / "history"
    history.write_text(f"frob show --id {word}\nls -la\n")
    with Memory(settings=settings) as memory:
        seen: list[str] = []
        embed = memory.embeddings.embedder.embed

        def watching(texts, role):
            seen.extend(texts)
            return embed(texts, role)

        memory.embeddings.embedder.embed = watching  # the last place before the model
        memory.ingest_history(history, shell="bash")
        assert seen == ["ls -la", f"frob show --id {MASKED}"]
        assert memory.search(word, kind="commands", mode="keyword")[0].text == f"frob show --id {word}"
        seen.clear()
        memory.ingest_history(history, shell="bash")
        assert seen == []


def test_an_export_with_vectors_brings_those_of_masked_commands_along(settings, tmp_path):
    history = tmp_path / "history"
    history.write_text(f"frob show --id {generated(28)}\n")
    with Memory(settings=settings) as memory:
        memory.ingest_history(history, shell="bash")
        memory.export(tmp_path / "export.jsonl", vectors=True)
    other = settings.with_values({"store.path": tmp_path / "other", "cache.path": tmp_path / "other-cache"})
    with Memory(settings=other) as memory:
        assert memory.import_(tmp_path / "export.jsonl").reused == 1
