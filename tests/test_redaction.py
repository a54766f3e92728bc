"""What redaction promises: known tokens go, references stay, nothing else changes, nothing raises or hangs."""

import pickle
import random
import re
import string
from concurrent.futures import ThreadPoolExecutor

import pytest

from omnimemory.sources.redaction import CommandTable, Redactor
from omnimemory.sources.redaction.command_table import built_in_table
from omnimemory.sources.redaction.token_shapes import SHAPES
from omnimemory.sources.redaction.values import Holds, is_secret_value, looks_random, name_holds

PLACEHOLDER = re.compile(r"\[REDACTED:[a-z0-9-]+\]")
SECRET = "Zq7xW2mK9pLt4vBn8cRd"  # typed at random; opens nothing
ALPHABETS = {
    "alnum": string.ascii_letters + string.digits,
    "letter": string.ascii_letters,
    "hex": "0123456789abcdef",
    "upper": string.ascii_uppercase + string.digits,
    "digit": string.digits,
    "base64": string.ascii_letters + string.digits + "+/",
}


def filled(template: str, seed: int = 1) -> str:
    rand = random.Random(f"{template} {seed}")
    return re.sub(r"%(\w+):(\d+)%", lambda m: "".join(rand.choice(ALPHABETS[m[1]]) for _ in range(int(m[2]))), template)


def command(text: str) -> str:
    return Redactor().command(text).text


# Known shapes of tokens


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.name}-{shape.example[:12]}")
@pytest.mark.parametrize("around", ["{}", "see {}.", "echo '{}' > x", "X={}", "(a,{})", "line\n{}\nline", '"{}"'])
def test_a_token_of_known_shape_goes_wherever_it_stands(shape, around):
    for seed in range(5):
        token = filled(shape.example, seed)
        found = Redactor().document(around.format(token))
        pieces = PLACEHOLDER.split(found.text)
        assert len(pieces) == 2, found.text
        assert found.counts == {shape.name: 1}
        hidden = around.format(token)[len(pieces[0]) : len(around.format(token)) - len(pieces[1])]
        assert hidden in token
        assert len(hidden) >= 16


@pytest.mark.parametrize(
    "text",
    [
        "commit 9fceb02d0ae598e95dc970b74767f19372d61af8",
        "sha256:9b2cf4a5e1d0c3b8a7f6e5d4c3b2a190817263544536271809f0e1d2c3b4a596",
        "3e6be9de-8139-4c22-9106-a43f08d823a6",
        "sklearn sk-learn-contrib-with-a-long-name-indeed",
        "npm_config_registry_of_the_second_mirror_site",
        "the_github_path_is_github_com_acme_application",
        "AKIAvery_much_not_a_key",
        "hf_model_of_the_year_and_some_more_words_here",
        "class TestEyJustLooksLikeATokenButIsNone: ...",
    ],
)
def test_long_words_that_are_no_tokens_stay(text):
    assert Redactor().document(text).text == text


def test_a_glued_token_goes():
    token = filled("ghp_%alnum:36%")
    assert command(f"tool -t{token} run") == "tool -t[REDACTED:github-token] run"


# URLs and private keys


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ftp://ann:s3cret!@h/x", "ftp://ann:[REDACTED:url-password]@h/x"),
        ("amqp://:s3cret@h:5672//", "amqp://:[REDACTED:url-password]@h:5672//"),
        ("http://ann:p@ss@h/x", "http://ann:[REDACTED:url-password]@h/x"),
        ("s3://ann:ab/cd+ef/gh12@bucket", "s3://ann:[REDACTED:url-password]@bucket"),
        ("http://ann@h:80/x", "http://ann@h:80/x"),
        ("http://h:8080/a@b", "http://h:8080/a@b"),
        ("http://h:8080?mail=a@b", "http://h:8080?mail=a@b"),
        ("http://ann:$PW@h ${U}:${P}@h", "http://ann:$PW@h ${U}:${P}@h"),
        ("http://ann:<password>@h", "http://ann:<password>@h"),
        ("docker://nginx:latest@sha256:00", "docker://nginx:latest@sha256:00"),
    ],
)
def test_only_the_password_of_a_url_goes(text, expected):
    assert Redactor().document(text).text == expected
    assert command(f"open '{text}'") == f"open '{expected}'"


@pytest.mark.parametrize("kind", ["RSA ", "OPENSSH ", "EC ", "ENCRYPTED ", ""])
def test_the_body_of_a_private_key_goes_and_the_document_stays(kind):
    body = "\n".join(filled(f"%base64:64%{n}") for n in range(12)) + "\n" + filled("%base64:22%=")
    begin, end = f"-----BEGIN {kind}PRIVATE KEY-----", f"-----END {kind}PRIVATE KEY-----"
    found = Redactor().document(f"before\n{begin}\n{body}\n{end}\nafter\n")
    assert found.text == f"before\n{begin}\n[REDACTED:private-key]\n{end}\nafter\n"
    assert found.counts == {"private-key": 1}
    assert not found.skip
    assert Redactor().document(f"{begin}\n{body}").text == f"{begin}\n[REDACTED:private-key]"


def test_prose_about_private_keys_stays():
    text = "It starts with -----BEGIN PRIVATE KEY----- and ends with -----END PRIVATE KEY-----, as we know."
    assert Redactor().document(text).text == text


def test_documents_keep_what_only_a_command_line_makes_a_secret():
    text = "Run `mysql -u root -phunter22 shop` or set PASSWORD=hunter22 first; --token hunter22 works too."
    assert Redactor().document(text).text == text
    assert command(text) != text


# What the caller is told


def test_a_command_that_starts_with_a_space_is_not_to_be_stored():
    assert Redactor().command(" mysql -psecret99").skip
    assert Redactor().command(" ls").skip
    assert not Redactor().command("ls ").skip
    assert not Redactor().document(" indented").skip
    assert "secret99" not in Redactor().command(" mysql -psecret99").text


def test_counts_say_how_often_each_rule_replaced_something():
    found = Redactor().command("A_TOKEN=k3jh4k mysql -pabc99 && mysql -pabc98 ftp://a:b77@h")
    assert found.counts == {"environment": 1, "flag": 2, "url-password": 1}
    assert Redactor().command("ls -la").counts == {}


def test_switched_off_it_changes_nothing():
    off = Redactor(enabled=False)
    for text in (" mysql -psecret99", "ftp://a:b77@h", ""):
        assert off.command(text).text == off.document(text).text == text
        assert off.command(text).counts == off.document(text).counts == {}
        assert not off.command(text).skip


def test_a_redactor_is_equal_and_works_after_pickling_and_in_threads():
    redactor = pickle.loads(pickle.dumps(Redactor()))
    assert redactor == Redactor() != Redactor(enabled=False)
    lines = [f"mysql -psecret{n} db{n}" for n in range(200)]
    with ThreadPoolExecutor(4) as pool:
        assert [f.text for f in pool.map(redactor.command, lines)] == [
            f"mysql -p[REDACTED:flag] db{n}" for n in range(200)
        ]


# Names and values


@pytest.mark.parametrize(
    ("name", "holds"),
    [
        *(
            (name, Holds.SECRET)
            for name in ("PASSWORD", "db_password", "dbPass", "X-Api-Key", "accessToken", "MYSQL_PWD")
        ),
        *(
            (name, Holds.SECRET)
            for name in ("SECRET_KEY_BASE", "DB_PASSWORD_PROD", "PGPASSWORD", "clientSecret", "wifi-psk")
        ),
        *((name, Holds.PERHAPS) for name in ("key", "auth", "APP_SIGNATURE", "credentials")),
        *(
            (name, Holds.NOTHING)
            for name in ("max_tokens", "tokenizer", "PASSWORD_FILE", "--ask-pass", "compass", "monkey")
        ),
        *(
            (name, Holds.NOTHING)
            for name in ("existingSecret", "secret-name", "PWD", "OLDPWD", "next_token", "", "KEYTIMEOUT")
        ),
    ],
)
def test_names_are_read_in_parts(name, holds):
    assert name_holds(name) is holds


@pytest.mark.parametrize(
    "value",
    [
        *("", "$PW", "${PW:-}", "$(pass x)", "`pass x`", "${A}:${B}", "%PW%", "{{ pw }}", "<password>"),
        *("~/.pw", "./pw", "/run/secrets/pw", "pw.txt", "@pw.json", "file:pw", "env:PW", "op://vault/item/pw"),
        *("true", "***", "\uffff" * 9),
    ],
)
def test_references_and_placeholders_are_no_secrets(value):
    assert not is_secret_value(value)


@pytest.mark.parametrize("value", ["hunter2", "pa$$word1", "x/Y9z", "/aB3dE6gH9jK+", "correct horse", "abc$def", "Zä9"])
def test_other_values_are_secrets(value):
    assert is_secret_value(value)


def test_random_looking_words_are_told_from_names():
    assert all(looks_random(filled(template, seed)) for seed in range(20) for template in ("%alnum:24%", "%hex:32%"))
    assert not any(map(looks_random, ["backups-2024-11-20-db1", "my-service-account-2", "a" * 40, "Project2024Final"]))


# The table of commands


@pytest.mark.parametrize(
    ("rule", "line", "expected"),
    [
        ("frob | -k", "frob -k x9 y", "frob -k [REDACTED:flag] y"),
        ("frob | -k*", "frob -kx9 y", "frob -k[REDACTED:flag] y"),
        ("frob | -k!", "frob -k y", "frob -k y"),
        ("frob | --pass=", "frob --pass y", "frob --pass y"),
        ("frob login | #2", "frob login ann x9", "frob login ann [REDACTED:argument]"),
        ("frob login | #2", "frob logout ann x9", "frob logout ann x9"),
        ("frob | -n@plain #last", "frob -n nine x9", "frob -n nine [REDACTED:argument]"),
        ("frob, blah | -w@percent", "sudo -u ann /opt/blah -w 'a%x9'", "sudo -u ann /opt/blah -w 'a%[REDACTED:flag]'"),
        ("frob | <@stdin", "echo x9 | nice -n 5 frob", "echo [REDACTED:stdin] | nice -n 5 frob"),
        ("frob |\n  -k\n  -l", "frob -l x9", "frob -l [REDACTED:flag]"),
    ],
)
def test_a_table_of_ones_own_is_read_as_its_notation_says(rule, line, expected):
    table = CommandTable.parse(["# comment", "", *rule.split("\n")])
    assert Redactor(table=table).command(line).text == expected


@pytest.mark.parametrize("line", ["frob -k", "| -k", "frob |", "frob | -k@nonsense"])
def test_a_wrong_line_of_a_table_is_quoted_in_the_error(line):
    with pytest.raises(ValueError, match=re.escape(repr(line)[:8])):
        CommandTable.parse([line])


VALUES = {
    "value": SECRET, "random": SECRET, "colon": f"ann:{SECRET}", "percent": f"ann%{SECRET}", "comma": f"ann,{SECRET}",
    "slash": f"ann/{SECRET}@db", "login": f"corp/ann:{SECRET}@host", "pairs": f"anything={SECRET}",
    "source": f"pass:{SECRET}", "cookie": f"sid={SECRET}", "stdin": SECRET, "stdin-colon": f"ann:{SECRET}",
}  # fmt: skip


def table_lines():
    for path, rules in built_in_table():
        name = " ".join(path)
        for flag, rule in rules.flags.items():
            if rule.kind.startswith("stdin"):
                yield f"echo {VALUES[rule.kind]} | {name} {flag}"
            elif rule.kind in VALUES:
                yield f"{name} {flag}={VALUES[rule.kind]} rest"
                if rule.separate:
                    yield f"{name} {flag} {VALUES[rule.kind]} rest"
                if rule.glued:
                    yield f"{name} {flag}{VALUES[rule.kind]} rest"
        for place, kind in rules.arguments.items():
            if kind in VALUES:
                before = (
                    "some " * (int(place) - len(path) + 1) if place.isdigit() else "" if place == "all" else "some "
                )
                yield f"{name} <<< {VALUES[kind]}" if place == "<" else f"{name} {before}{VALUES[kind]}"


def test_each_line_of_the_built_in_table_does_what_it_says():
    lines = list(table_lines())
    assert len(lines) > 3_000
    assert [line for line in lines if SECRET in command(line)] == []
