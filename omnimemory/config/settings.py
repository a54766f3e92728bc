"""The settings themselves: every section and key with its type, range and default."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from omnimemory.config.keys import key as _key
from omnimemory.config.keys import user_folder
from omnimemory.config.schedule_settings import ScheduleSettings
from omnimemory.config.spec import Spec
from omnimemory.errors import ConfigError

__all__ = [
    "SECTIONS",
    "SPECS",
    "CacheSettings",
    "ChunkingSettings",
    "DocumentSettings",
    "EmbeddingSettings",
    "HistorySettings",
    "IndexSettings",
    "MemorySettings",
    "ModelSettings",
    "RedactionSettings",
    "ScheduleSettings",
    "SearchSettings",
    "ServerSettings",
    "Settings",
    "StoreSettings",
    "by_section",
    "parse_value",
    "unknown_key",
    "user_folder",
]


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Where the memory lives."""

    path: Path = _key(  # noqa: RUF009 - returns a dataclass field
        lambda: user_folder("data") / "memory", "path", "folder of the store"
    )


@dataclass(frozen=True, slots=True)
class EmbeddingSettings:
    """How text becomes vectors."""

    model: str = _key("auto", "text", "embedding model, auto is the store's own, for a new one the best that is here")
    dim: int | None = _key(None, "int", "numbers in a vector, none is the model's own", low=1, high=8192, optional=True)
    precision: str | None = _key(
        None,
        "text",
        "how a model computes, none is as measured best",
        choices=("float32", "bfloat16", "int8"),
        optional=True,
    )
    threads: int | None = _key(
        None, "int", "threads of an onnx model, none is all cores", low=1, high=512, optional=True
    )
    batch_size: int = _key(512, "int", "most texts embedded at once", low=1, high=100_000)
    profiles: tuple[str, ...] = _key((), "list", "own names of vector sizes, such as phone=128")


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Models that were pulled, and the table of those that are known."""

    path: Path = _key(  # noqa: RUF009 - returns a dataclass field
        lambda: user_folder("data") / "models", "path", "folder of pulled models"
    )
    table: Path = _key(  # noqa: RUF009 - returns a dataclass field
        lambda: user_folder("config") / "models.toml", "path", "your own table of models"
    )


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Model servers, for embedding models named ``ollama:...`` and ``openai:...``."""

    ollama_url: str | None = _key(None, "text", "address of Ollama, none is OLLAMA_HOST or this machine", optional=True)
    openai_url: str | None = _key(None, "text", "address of an OpenAI-compatible server, up to /v1", optional=True)
    allow_remote: bool = _key(default=False, kind="bool", meaning="send texts to servers on other machines")
    allow_cloud: bool = _key(default=False, kind="bool", meaning="use models that Ollama runs in its cloud")
    document_prompt: str | None = _key(None, "words", "put before texts to store, none is what is known", optional=True)
    query_prompt: str | None = _key(None, "words", "put before questions, none is what is known", optional=True)
    force_dim: bool = _key(default=False, kind="bool", meaning="cut vectors of models not known to be made for it")
    max_tokens: int | None = _key(
        None, "int", "tokens a model reads at once, none is what its server says", low=16, high=1_000_000, optional=True
    )
    options: tuple[str, ...] = _key((), "list", "options for Ollama, such as num_ctx=8192")
    batch_size: int = _key(32, "int", "texts in one request", low=1, high=2048)
    timeout: float = _key(120.0, "float", "seconds a request may take, at least", low=1, high=86_400)
    connect_timeout: float = _key(3.0, "float", "seconds until a server takes a connection", low=1, high=3600)
    tries: int = _key(4, "int", "times a server is asked", low=1, high=100)
    longest_wait: float = _key(60.0, "float", "most seconds a busy server is waited for", low=0, high=3600)
    keep_alive: str = _key("30m", "text", "how long Ollama keeps the model after a question")
    index_keep_alive: str = _key("1m", "text", "how long Ollama keeps the model after texts to store")
    path: Path = _key(  # noqa: RUF009 - returns a dataclass field
        lambda: user_folder("data") / "servers", "path", "folder of what is known of servers' models"
    )


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """The vectors that need not be computed again."""

    enabled: bool = _key(default=True, kind="bool", meaning="keep computed vectors for all stores")
    path: Path = _key(  # noqa: RUF009 - returns a dataclass field
        lambda: user_folder("cache") / "embeddings", "path", "folder of the cache"
    )
    size_limit: int = _key(0, "size", "bytes on disk before old vectors go, 0 is no limit", low=0)
    hot_items: int = _key(4096, "int", "vectors kept in memory as well", low=0, high=10_000_000)


@dataclass(frozen=True, slots=True)
class ChunkingSettings:
    """How documents are cut."""

    size: int = _key(256, "int", "tokens in a chunk", low=16, high=32_768, project=True)
    overlap: int = _key(32, "int", "tokens a chunk repeats, below half of size", low=0, high=16_384, project=True)


@dataclass(frozen=True, slots=True)
class DocumentSettings:
    """Which files are read."""

    max_bytes: int = _key(32 * 2**20, "size", "larger files are skipped", low=1, project=True)
    max_depth: int = _key(64, "int", "deeper folders are skipped", low=0, high=1000, project=True)
    hidden: bool = _key(default=False, kind="bool", meaning="read hidden files and folders")
    gitignore: bool = _key(default=True, kind="bool", meaning="obey .gitignore")
    include: tuple[str, ...] = _key((), "list", "patterns: read only these files", project=True)
    exclude: tuple[str, ...] = _key((), "list", "patterns: never read these files", project=True)


@dataclass(frozen=True, slots=True)
class HistorySettings:
    """How shell history is read."""

    keep_secrets: bool = _key(default=False, kind="bool", meaning="store secrets as they are")
    session_gap: float = _key(1800.0, "float", "seconds of pause that end a session", low=1, high=604_800)
    sequence_decay: float = _key(0.1, "float", "how much an older command counts less, a step", low=0, high=10)
    keep_days: float | None = _key(
        None,
        "float",
        "days after which maintain forgets an execution, none is never",
        low=1,
        high=36_500,
        optional=True,
    )
    steps: int = _key(1000, "int", "newest transitions and sequences kept as vectors", low=0, high=1_000_000)


@dataclass(frozen=True, slots=True)
class RedactionSettings:
    """A user's own rules of what is a secret; `omnimemory redact --help` tells how they are written."""

    allow: tuple[str, ...] = _key((), "rules", "rules: what is no secret, whatever else says so")
    deny: tuple[str, ...] = _key((), "rules", "rules: what else is a secret")


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """The Chroma index, which is derived from the catalog."""

    enabled: bool = _key(default=True, kind="bool", meaning="keep a Chroma index")
    documents: bool = _key(default=True, kind="bool", meaning="give Chroma the texts as well")
    wait: bool = _key(
        default=True, kind="bool", meaning="an ingest ends when the index has all of it, not when all is searchable"
    )
    batch_size: int = _key(2000, "int", "rows added at once", low=1, high=5000)
    ef_search: int = _key(200, "int", "candidates a query looks at", low=1, high=10_000)
    idle_seconds: float = _key(30.0, "float", "unused time after which its lock is given back", low=0, high=86_400)


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """How a search answers when it is not told."""

    k: int = _key(10, "int", "hits", low=1, high=10_000, project=True)
    mode: str = _key("hybrid", "text", "what is compared", choices=("hybrid", "vector", "keyword"), project=True)
    exact_rows: int = _key(20_000, "int", "rows up to which the search is exact", low=0, high=1_000_000_000)
    weight: float | None = _key(
        None, "float", "share of the vector score, none is fitted", low=0, high=1, optional=True
    )
    model_seconds: float | None = _key(
        None,
        "float",
        "seconds a hybrid search waits for the model, then keywords answer; none is as long as it takes",
        low=0.01,
        high=86_400,
        optional=True,
    )


@dataclass(frozen=True, slots=True)
class MemorySettings:
    """How much main memory may be used."""

    reserve: int | None = _key(None, "size", "bytes left to others, none is automatic", low=0, optional=True)
    max_bytes: int | None = _key(None, "size", "most bytes this package may use", low=1, optional=True)
    learn: bool = _key(default=True, kind="bool", meaning="measure what models need, and go by that")
    learned: Path = _key(  # noqa: RUF009 - returns a dataclass field
        lambda: user_folder("state") / "learned.sqlite3", "path", "file of what was measured of models"
    )


@dataclass(frozen=True)
class Settings:
    """All settings, by section: ``settings.chunking.size``. Invalid values raise :class:`ConfigError`."""

    store: StoreSettings = field(default_factory=StoreSettings)
    embedding: EmbeddingSettings = field(default_factory=EmbeddingSettings)
    models: ModelSettings = field(default_factory=ModelSettings)
    servers: ServerSettings = field(default_factory=ServerSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)
    chunking: ChunkingSettings = field(default_factory=ChunkingSettings)
    documents: DocumentSettings = field(default_factory=DocumentSettings)
    history: HistorySettings = field(default_factory=HistorySettings)
    redaction: RedactionSettings = field(default_factory=RedactionSettings)
    index: IndexSettings = field(default_factory=IndexSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    memory: MemorySettings = field(default_factory=MemorySettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        parsed = {key: parse_value(key, value, self.origin(key)) for key, value in self.items()}
        for name, part in by_section(parsed).items():
            object.__setattr__(self, name, SECTIONS[name](**part))
        if self.chunking.overlap * 2 >= self.chunking.size:
            at = " and ".join(
                f"{key} = {self[key]} ({self.origin(key)})" for key in ("chunking.overlap", "chunking.size")
            )
            raise ConfigError(f"{at}: the overlap must be below half of the size")

    def __getitem__(self, key: str) -> Any:
        if key not in SPECS:
            raise ConfigError(unknown_key(key))
        section, name = key.split(".")
        return getattr(getattr(self, section), name)

    def items(self) -> Iterator[tuple[str, Any]]:
        """Yield each setting as ``("section.key", value)``."""
        return ((key, self[key]) for key in SPECS)

    def origin(self, key: str) -> str:
        """Say where the value of ``section.key`` came from, for example a file and line."""
        return self.origins.get(key, "default")

    def with_values(self, values: Mapping[str, Any], origin: str = "argument") -> Settings:
        """Return a copy with some ``section.key`` values changed; a value of ``None`` changes nothing."""
        given = {key: parse_value(key, value, origin) for key, value in values.items() if value is not None}
        parts = {name: replace(getattr(self, name), **part) for name, part in by_section(given).items()}
        return replace(self, **parts, origins={**self.origins, **dict.fromkeys(given, origin)})


SECTIONS: dict[str, Any] = {part.name: part.default_factory for part in fields(Settings) if part.name != "origins"}
SPECS: dict[str, Spec] = {
    f"{section}.{key.name}": key.metadata["spec"] for section, kind in SECTIONS.items() for key in fields(kind)
}


def parse_value(key: str, value: Any, origin: str, folder: Path | None = None) -> Any:
    """Return ``value`` as the setting ``key`` holds it; relative paths count from ``folder``."""
    if key not in SPECS:
        raise ConfigError(f"{origin}: {unknown_key(key)}")
    try:
        parsed = SPECS[key].parse(value)
    except ValueError as error:
        raise ConfigError(f"{origin}: {key} {error}") from None
    return folder / parsed if folder and isinstance(parsed, Path) else parsed


def unknown_key(key: str, known: Iterable[str] = ()) -> str:
    """Say that there is no such setting, and which of ``known`` (all settings by default) is nearest."""
    import difflib  # noqa: PLC0415 - only an error needs it

    if key in SECTIONS:
        return f"{key} is a section: put its settings under [{key}]"
    close = difflib.get_close_matches(key, list(known) or list(SPECS), 1, 0.5)
    fix = f"did you mean {close[0]}?" if close else "`omnimemory config` lists them all"
    return f"there is no setting {key!r:.80}: {fix}"


def by_section(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Turn ``{"section.key": value}`` into ``{"section": {"key": value}}``."""
    sections: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        section, name = key.split(".")
        sections.setdefault(section, {})[name] = value
    return sections
