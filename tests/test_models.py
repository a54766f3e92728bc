"""The table of known models, and the user's own."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import fields

import pytest
from click.testing import CliRunner

from omnimemory.cli import cli
from omnimemory.embedders.models import CAPABILITIES, ModelCard, find_card, known_models
from omnimemory.embedders.plugins import GROUP, load_plugin, plugin_names
from omnimemory.errors import ConfigError, EmbedderError
from omnimemory.memory import Memory

MINE = """
[mine]
provider = "onnx"
dim = 64
bytes = 1000
licence = "MIT"
"""


def test_the_table_names_each_model_once():
    cards = known_models()
    names = [name.lower() for card in cards.values() for name in (card.name, *card.aliases)]
    assert len(set(names)) == len(names)
    assert {"wordllama-256", "all-MiniLM-L6-v2", "bge-small-en-v1.5", "nomic-embed-text-v1.5"} <= cards.keys()
    assert "embeddinggemma-300m" in cards


@pytest.mark.parametrize("card", known_models().values(), ids=lambda card: card.name)
def test_a_card_is_whole(card):
    assert card.licence
    assert card.capabilities
    assert all(dim < card.dim for dim in card.dims)
    assert ("prompts" in card.capabilities) == bool(card.prompts)
    assert card.provider == "static" or card.hub
    assert {"tokenizer.json", "config.json"} <= card.files.keys()


def test_every_file_of_minilm_has_a_known_sha256():
    card = find_card("minilm", known_models())
    assert all(card.files.values())
    assert card.files["model.safetensors"] == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@pytest.mark.parametrize("name", ["minilm", "MiniLM", " all-MiniLM-L6-v2", "ALL-MINILM-L6-V2"])
def test_a_model_is_found_by_name_and_alias_in_any_case(name):
    assert find_card(name, known_models()).name == "all-MiniLM-L6-v2"


def test_an_unknown_name_is_an_error_with_the_nearest_one():
    with pytest.raises(ConfigError, match=r"no model 'minlm'. Did you mean minilm"):
        find_card("minlm", known_models())
    with pytest.raises(ConfigError, match="models list"):
        find_card("something else entirely", known_models())


def test_the_users_table_adds_and_replaces(tmp_path):
    table = tmp_path / "models.toml"
    table.write_text(
        MINE + MINE.replace("mine", '"bge-small-en-v1.5"') + 'prompts.query = "q: "\naliases = ["Short"]\n'
    )
    cards = known_models(table)
    assert (cards["mine"].dim, cards["mine"].precision, cards["mine"].hub) == (64, "float32", None)
    assert find_card("short", cards).prompts == {"query": "q: "}
    assert cards["bge-small-en-v1.5"].dim == 64
    assert "all-MiniLM-L6-v2" in cards
    assert known_models(tmp_path / "absent.toml") == known_models()


WRONG = {
    "no-toml": ("[mine", "no table of models.*(line 1|end of document)"),
    "not-utf-8": (b"\xff\xfe[mine]", "no table of models"),
    "value": ("mine = 3", "value where a table"),
    "missing": ('[mine]\nprovider = "onnx"\n', r"\[mine\]: dim, bytes, licence is missing"),
    "unknown-key": (MINE + "size = 3\n", r"\[mine\]: there is no key 'size'"),
    "dot-without-quotes": (MINE.replace("mine", "mine-v1.5"), "name with a dot must stand in quotes"),
    "bad-name": (MINE.replace("mine", '"../mine"'), "made of letters, digits"),
    "hidden-name": (MINE.replace("mine", '".mine"'), "made of letters, digits"),
    "dim": (MINE.replace("64", "-64"), "dim must be a whole number above 0, not -64"),
    "dim-text": (MINE.replace("64", '"64"'), "dim must be a whole number"),
    "dim-bool": (MINE.replace("64", "true"), "dim must be a whole number"),
    "dims": (MINE + "dims = [32, 0]\n", "dims must be a list of whole numbers"),
    "provider": (MINE.replace("onnx", "torch"), "provider must be one of static, onnx, mlx, not 'torch'"),
    "precision": (MINE + 'precision = "int4"\n', "precision must be one of float32, bfloat16, int8"),
    "licence": (MINE.replace('"MIT"', '""'), "licence must be a text"),
    "aliases": (MINE + 'aliases = "m"\n', "aliases must be a list of texts"),
    "capability": (MINE + 'capabilities = ["clever"]\n', "capabilities knows english.*not 'clever'"),
    "role": (MINE + 'prompts.passage = "p"\n', "prompts knows document, query, not 'passage'"),
    "prompt": (MINE + "prompts.query = 3\n", "prompts must be a dict of texts"),
    "sha256": (MINE + 'files."a.json" = "ABC"\n', "sha256 of a.json must be 64 hexadecimal digits"),
    "alias-of-another": (MINE + 'aliases = ["MiniLM"]\n', r"\[mine\]: 'minilm' is a name of all-MiniLM-L6-v2 already"),
    "name-of-another": (MINE.replace("mine", "Static"), r"\[Static\]: 'static' is a name of wordllama-256 already"),
    "file-outside": (MINE + 'files."../a.json" = ""\n', "no name of a file inside"),
    "file-absolute": (MINE + 'files."/etc/passwd" = ""\n', "no name of a file inside"),
    "file-hidden": (MINE + 'files."a/.git" = ""\n', "no name of a file inside"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_table_is_an_error_that_names_file_and_place(tmp_path, name):
    content, message = WRONG[name]
    table = tmp_path / "models.toml"
    table.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=message) as caught:
        known_models(table)
    assert str(table) in str(caught.value)


def test_a_table_that_cannot_be_read_is_an_error(tmp_path):
    (tmp_path / "models.toml").mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        known_models(tmp_path / "models.toml")
    (tmp_path / "large.toml").write_bytes(b"#" * (1 << 20) + b"\n#")
    with pytest.raises(ConfigError, match="larger than"):
        known_models(tmp_path / "large.toml")


def test_capabilities_are_those_that_some_model_has():
    assert {name for card in known_models().values() for name in card.capabilities} == set(CAPABILITIES)
    assert {"bytes", "licence", "max_tokens", "prompts", "dims", "files"} <= {field.name for field in fields(ModelCard)}


PLUGIN = """
from omnimemory.embedders.models import ModelCard
from omnimemory.embedders.static import StaticEmbedder

class Plugin:
    def models(self):
        return [ModelCard("small", "onnx", 64, 1, "MIT", capabilities=("english",))]
    def health(self):
        return {health!r}
    def make(self, model, dim):
        assert model == "small"
        return StaticEmbedder(dim or 64)

class Empty:
    pass

broken = {broken}
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Return a function that installs a package with an embedder."""

    def install(points="plug = plug_in:Plugin", health=None, broken="1"):
        (tmp_path / "plug_in.py").write_text(PLUGIN.format(health=health, broken=broken))
        info = tmp_path / "plug_in-1.0.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug-in\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{points}\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "plug_in", raising=False)
        importlib.invalidate_caches()
        return tmp_path

    return install


def test_a_plug_in_offers_models_and_makes_them(plugin):
    plugin()
    assert plugin_names() == ["plug"]
    found = load_plugin("plug")
    assert found is not None
    assert [card.name for card in found.models()] == ["small"]
    assert found.health() is None
    assert found.make("small", None).dim == 64
    assert load_plugin("other") is None


@pytest.mark.parametrize(
    ("points", "broken", "message"),
    [
        ("plug = plug_in:Absent", "1", "'plug' of the package plug-in cannot be loaded: .*Absent"),
        ("plug = plug_in:Plugin", "1 / 0", "cannot be loaded: division by zero"),
        ("plug = plug_in:Empty", "1", "has no models, health and make"),
        ("plug = plug_in:broken", "1", "cannot be loaded: 'int' object is not callable"),
    ],
    ids=["absent", "raises", "incomplete", "no-plug-in"],
)
def test_a_broken_plug_in_is_an_error_that_names_its_package(plugin, points, broken, message):
    plugin(points, broken=broken)
    with pytest.raises(EmbedderError, match=message):
        load_plugin("plug")


HALF = """
class Half:
    name, dim, embed = "half", 64, None

class Plugin:
    def models(self):
        {models}
    def health(self):
        raise OSError("no line")
    def make(self, model, dim):
        {make}
"""


@pytest.mark.parametrize(
    ("models", "make", "listed", "made"),
    [
        ("raise KeyError", "raise ValueError('no such thing')", "could not tell its models: KeyError", "no such thing"),
        (
            "return ['small']",
            "return Half()",
            "models that are no ModelCard",
            "a Half, which has no max_tokens",
        ),
        ("return []", "return None", "could not tell how it is: no line", "made a NoneType, which has no name, dim"),
    ],
    ids=["raises", "incomplete", "nothing"],
)
def test_what_a_plug_in_does_wrong_names_it_and_hides_no_other_model(
    plugin, tmp_path, settings, models, make, listed, made
):
    plugin()
    (tmp_path / "plug_in.py").write_text(HALF.format(models=models, make=make))
    done = CliRunner().invoke(cli, ["models", "list", "--json"])
    found = {entry["name"]: entry for entry in map(json.loads, done.stdout.splitlines())}
    assert listed in found["plug"]["problem"]
    assert found["wordllama-256"]["problem"] is None
    with pytest.raises(EmbedderError, match=f"The embedder 'plug' of the package plug-in .*{made}"):
        Memory(settings=settings, model="plug:small")


def test_a_memory_takes_the_model_of_a_plug_in(plugin, settings):
    plugin()
    with Memory(settings=settings, model="plug:small") as memory:
        assert memory.embeddings.dim == 64
    with pytest.raises(ConfigError, match="no embedding model 'other:small'"):
        Memory(settings=settings, model="other:small")


def test_the_command_shows_plug_ins_and_what_is_wrong_with_them(plugin, monkeypatch):
    plugin("plug = plug_in:Plugin\nbad = plug_in:Absent", health="its server is down")
    done = CliRunner().invoke(cli, ["models", "list", "--json"])
    found = {entry["name"]: entry for entry in map(json.loads, done.stdout.splitlines())}
    assert found["plug:small"]["problem"] == "its server is down"
    assert "Absent" in found["bad"]["problem"]
    assert done.exit_code == 1
