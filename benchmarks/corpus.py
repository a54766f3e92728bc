"""A folder of generated documents: Markdown with headings, prose, lists and code, the same for the same seed.

Words are drawn by Zipf's law and sentences made from patterns, so that tokens, word frequencies and chunk
sizes are about those of technical prose. Hardly any two paragraphs are equal.
"""

from __future__ import annotations

import random
from itertools import accumulate
from pathlib import Path

__all__ = ["headings", "notes", "write_documents"]

_NOUNS = """service request server cluster database table index record file folder branch release version backup
archive token session cache queue worker job batch pipeline model vector document chunk query answer filter
result error warning log metric alert dashboard report invoice customer account order payment address parcel
warehouse schedule calendar meeting agenda minutes decision proposal budget contract supplier office printer
network router firewall certificate keyboard proxy gateway container image registry volume snapshot disk
partition memory process thread lock deadlock timeout retry deadline interval window threshold limit quota
permission role policy audit review patch commit merge conflict test fixture coverage benchmark profile
function module package library interface protocol message event stream socket buffer parser compiler garden
kitchen recipe flour oven bicycle station platform ticket museum reader lecture exam thesis chapter appendix
figure footnote reference glossary translation dialect grammar verb noun sentence paragraph margin headline
river valley bridge harbour lighthouse island glacier weather forecast rainfall temperature pressure sensor
battery charger cable antenna satellite orbit telescope microscope sample reagent solution crystal membrane
protein enzyme patient doctor nurse clinic dose vaccine symptom diagnosis treatment therapy insurance claim
premium mortgage interest dividend portfolio auditor ledger receipt refund discount voucher campaign survey
election council mayor statute regulation permit licence inspector violation appeal court verdict witness"""
_VERBS = """reads writes checks opens closes starts stops restarts deletes creates updates moves copies renames
compares merges splits rejects accepts delays repeats skips counts measures records reports explains describes
requires allows forbids replaces restores verifies signs encrypts compresses sends receives forwards ignores
collects groups sorts filters renders prints exports imports schedules cancels confirms approves revokes"""
_ADJECTIVES = """new old slow fast broken stale empty full local remote private public shared temporary permanent
optional mandatory daily weekly quarterly manual automatic incremental partial complete nested recursive early
late narrow wide quiet noisy cheap costly fragile robust obscure obvious foreign domestic northern coastal urban
rural annual legal technical chemical digital mechanical seasonal regional central minor major"""
_ADVERBS = """usually, often, rarely, always, twice, silently, slowly, at once, by hand, on request, at night,
before midnight, after lunch, without notice, in order, under load"""
_PLACES = "Hamburg Lisbon Nairobi Osaka Quito Tallinn Utrecht Zagreb Bergen Cusco Dakar Galway Hanoi Jaipur"
_LISTS = {
    "noun": _NOUNS.split(),
    "verb": _VERBS.split(),
    "adjective": _ADJECTIVES.split(),
    "adverb": [" ".join(words.split()) for words in _ADVERBS.split(",")],
    "place": _PLACES.split(),
}
_WEIGHTS = {kind: list(accumulate(1 / rank for rank in range(2, len(words) + 2))) for kind, words in _LISTS.items()}

_SENTENCES = (
    "The {adjective} {noun} {verb} the {noun} {adverb}.",
    "When a {noun} {verb} the {adjective} {noun}, the {noun} of {place} {verb} it {adverb}.",
    "Every {noun} has a {noun}, and no {adjective} {noun} {verb} more than {number} of them.",
    "If the {noun} is {adjective}, the {noun} {verb} its {noun}; otherwise the {adjective} {noun} {verb} the {noun}.",
    "In {place} the {noun} {verb} {number} {adjective} {noun}s {adverb}, which the {noun} {verb} as well.",
    "Nobody {verb} the {noun} until the {adjective} {noun} of step {number} {verb} it.",
    "The {noun} and the {noun} differ: the first {verb} a {noun}, the second {verb} a {adjective} {noun} {adverb}.",
    "Since version {number}.{number} the {noun} {verb} the {noun} of each {noun}, unless it is {adjective}.",
    "It {adverb} {verb} the {noun}, because a {adjective} {noun} costs {number} seconds.",
)
_HEADINGS = (
    "How the {noun} {verb} a {noun}",
    "The {adjective} {noun}",
    "{noun} and {noun} in {place}",
    "When a {noun} {verb} the {adjective} {noun}",
    "Why no {noun} {verb} {number} {noun}s",
)
_CODE = (
    "def {noun}_{noun}(limit={number}):\n    for entry in {noun}.{noun}s(limit):\n        yield entry + {number}",
    '[{noun}]\n{noun} = {number}\n{noun}_{noun} = "{adjective}"',
    "tool {noun} --{noun}={number} --{adjective} {noun}/{noun}.txt",
)


class _Words:
    """Words for the fields of a pattern, each looked up anew; a document has an order, so a subject, of its own."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._lists = {kind: dice.sample(words, len(words)) for kind, words in _LISTS.items()}

    def __getitem__(self, kind: str) -> str:
        if kind == "number":
            return str(self._dice.randint(2, 900))
        return self._dice.choices(self._lists[kind], cum_weights=_WEIGHTS[kind])[0]


def write_documents(folder: Path, files: int, seed: int = 1) -> None:
    """Write so many Markdown files of about 8 KB, a hundred a folder."""
    dice = random.Random(seed)
    for number in range(files):
        path = folder / f"part{number // 100:03}" / f"{number:05}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_document(dice, number), encoding="utf-8")


def notes(count: int, seed: int = 1) -> list[str]:
    """Return so many texts of two or three sentences, each with words that it prefers."""
    dice = random.Random(seed)
    made = []
    for _ in range(count):
        words = _Words(dice)
        made.append(" ".join(_line(dice, words, _SENTENCES) for _ in range(dice.randint(2, 3))))
    return made


def headings(count: int, seed: int) -> list[str]:
    """Return so many short texts, which may serve as questions."""
    dice = random.Random(seed)
    return [_line(dice, _Words(dice), _HEADINGS) for _ in range(count)]


def _document(dice: random.Random, number: int) -> str:
    words = _Words(dice)
    parts = [f"# Note {number}: {_line(dice, words, _HEADINGS)}"]
    for _ in range(dice.randint(6, 12)):
        parts.append(f"{'#' * dice.choice((2, 2, 3))} {_line(dice, words, _HEADINGS).capitalize()}")
        parts.extend(_block(dice, words) for _ in range(dice.randint(1, 3)))
    return "\n\n".join(parts) + "\n"


def _block(dice: random.Random, words: _Words) -> str:
    kind = dice.random()
    if kind < 0.1:
        return f"```\n{_line(dice, words, _CODE)}\n```"
    sentences = [_line(dice, words, _SENTENCES) for _ in range(dice.randint(2, 8))]
    return "\n".join(f"- {sentence}" for sentence in sentences) if kind < 0.2 else " ".join(sentences)


def _line(dice: random.Random, words: _Words, patterns: tuple[str, ...]) -> str:
    return dice.choice(patterns).format_map(words)
