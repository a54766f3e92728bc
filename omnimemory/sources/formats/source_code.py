"""Source code: kept as it is, with its definitions as headings, so that it is cut between them.

The definitions are found by one regular expression per language at the beginning of lines: no parser, so a
definition inside a string or a comment counts as well, and it makes a fine place to cut too. A definition's level
follows from its indentation. Every pattern is bounded, so minified files take no longer than others.
"""

from __future__ import annotations

import re
from itertools import islice

from omnimemory.records import Document, Heading
from omnimemory.sources.formats.limits import MOST_HEADINGS

__all__ = ["language_of", "read_code"]

_ENDINGS = {
    "python": "py pyi pyx pyw",
    "javascript": "js mjs cjs jsx",
    "typescript": "ts tsx mts cts",
    "go": "go",
    "rust": "rs",
    "java": "java",
    "kotlin": "kt kts",
    "scala": "scala",
    "swift": "swift",
    "csharp": "cs",
    "c": "c h",
    "cpp": "cc cpp cxx hh hpp hxx ipp",
    "ruby": "rb rake gemspec",
    "php": "php",
    "perl": "pl pm",
    "lua": "lua",
    "r": "r",
    "shell": "sh bash zsh ksh fish",
    "powershell": "ps1 psm1",
    "make": "mk mak",
    "sql": "sql",
    "css": "css scss sass less",
    "json": "json jsonl ndjson",
    "yaml": "yaml yml",
    "toml": "toml",
    "ini": "ini cfg conf",
    "xml": "xml xsd xsl",
    "csv": "csv tsv",
    "log": "log",
}
_LANGUAGE_OF = {ending: language for language, endings in _ENDINGS.items() for ending in endings.split()}
_NAMES = {
    **dict.fromkeys(("makefile", "gnumakefile", "bsdmakefile"), "make"),
    **dict.fromkeys(("dockerfile", "containerfile"), "dockerfile"),
    **dict.fromkeys(("rakefile", "gemfile", "vagrantfile"), "ruby"),
    **dict.fromkeys((".bashrc", ".bash_profile", ".zshrc", ".profile"), "shell"),
    "cmakelists.txt": "cmake",
    "jenkinsfile": "groovy",
}
_SHEBANG = re.compile(r"#![^\n]{0,200}?\b(python|node|ruby|perl|php|lua|bash|zsh|fish|ksh|dash|sh)(?![a-z])")
_SHELLS = frozenset({"bash", "zsh", "fish", "ksh", "dash", "sh"})

_WORDS = r"(?:[a-z]{2,12}[ \t]+){0,6}"  # public static final async ...
_FUNCTION = r"(?:function[ \t]*\*?|class|interface|enum|namespace|type)"
_ARROW = r"(?:async[ \t]*)?(?:function\b|\([^()\n]{0,200}\)[^=\n]{0,80}=>|[\w$]{1,80}[ \t]*=>)"
_SCRIPT = rf"""
    ^([ \t]*) (?:export[ \t]+)?(?:default[ \t]+)? {_WORDS}
    (?: {_FUNCTION} [ \t]+ ([\w$]{{1,80}})
      | (?:const|let|var)[ \t]+ ([\w$]{{1,80}}) [ \t]*(?::[^=\n]{{1,80}})?=[ \t]*{_ARROW} )"""
_JAVA = rf"""
    ^([ \t]*) (?:@\w{{1,40}}[ \t]+)? {_WORDS}
    (?: (?:class|interface|enum|record|struct|object|trait|protocol|extension|namespace)[ \t]+ (\w{{1,80}})
      | (?:fun|func|def)[ \t]+ ([\w.`]{{1,80}})
      | (?!(?:return|new|else|throw|case|await|yield)\b) [A-Za-z_][\w.]{{0,80}}(?:<[^()\n]{{0,80}}>)?[\[\]?]*[ \t]+
        (\w{{1,80}})[ \t]*\([^;\n]{{0,200}}\{{[ \t]*$ )"""
_C = r"""
    ^() (?: (?:typedef[ \t]+)?(?:static[ \t]+)?(?:struct|class|enum|union|namespace)[ \t]+ (\w{1,80}) [^;()\n]{0,120}$
      | (?!(?:if|for|while|switch|return|else|do|sizeof|case|typedef|using|extern)\b)
        (?:(?>[A-Za-z_,>][\w:<>,~]{0,80}[ \t*&]+)){0,6} ([A-Za-z_~][\w:~]{0,80}) [ \t]*\([^;\n]{0,300}$ )"""
_RUST = r"""
    ^([ \t]*) (?:pub(?:\([^)\n]{0,40}\))?[ \t]+)?
    (?:(?:default|const|async|unsafe|extern[ \t]+"[^"\n]{0,20}")[ \t]+){0,4}
    (?: (?:fn|struct|enum|trait|union|mod|macro_rules!)[ \t]+ (\w{1,80}) | (impl\b[^{\n]{1,120}) )"""
_DEFINITIONS = {
    "python": r"^([ \t]*) (?:async[ \t]+)?(?:def|class)[ \t]+ (\w{1,80})",
    "javascript": _SCRIPT,
    "typescript": _SCRIPT,
    "go": r"^() (?: func[ \t]+(?:\([^)\n]{0,80}\)[ \t]*)?(\w{1,80}) | type[ \t]+(\w{1,80}) )",
    "rust": _RUST,
    "java": _JAVA,
    "kotlin": _JAVA,
    "scala": _JAVA,
    "swift": _JAVA,
    "csharp": _JAVA,
    "c": _C,
    "cpp": _C,
    "ruby": r"^([ \t]*) (?:def|class|module)[ \t]+ ([\w.:?!=<>\[\]]{1,80})",
    "php": rf"^([ \t]*) {_WORDS} (?:function|class|interface|trait|enum)[ \t]+&? (\w{{1,80}})",
    "perl": r"^([ \t]*) (?:sub|package)[ \t]+ ([\w:]{1,80})",
    "lua": r"^([ \t]*) (?:local[ \t]+)?function[ \t]+ ([\w.:]{1,80})",
    "r": r"^() ([\w.]{1,80})[ \t]*(?:<-|=)[ \t]*function\b",
    "shell": r"^([ \t]*) (?: function[ \t]+([\w.:-]{1,80}) | ([\w.:-]{1,80})[ \t]*\(\) )",
    "powershell": r"^([ \t]*) (?:function|filter|class)[ \t]+ ([\w:-]{1,80})",
    "make": r"^() ([A-Za-z][\w./%-]{0,80})[ \t]*:(?![=:])",
    "sql": r"^() ((?:create|alter)[ \t]+(?:or[ \t]+replace[ \t]+)?\w{1,20}[ \t]+[\w.\"`]{1,80})",
    "toml": r"^() \[{1,2} ([^\]\n]{1,80}) \]{1,2}",
    "ini": r"^() \[ ([^\]\n]{1,80}) \]",
}


def language_of(name: str, text: str) -> str | None:
    """Return the language of a file by its name, or by its first line if the name has no ending."""
    lower = name.lower()
    if lower in _NAMES:
        return _NAMES[lower]
    if "." in lower[1:]:
        return _LANGUAGE_OF.get(lower[lower.rfind(".") + 1 :])
    match = _SHEBANG.match(text)
    if match is None:
        return None
    return "shell" if match[1] in _SHELLS else "javascript" if match[1] == "node" else match[1]


def read_code(uri: str, text: str, language: str) -> Document:
    """Return source code with its definitions as headings."""
    pattern = _DEFINITIONS.get(language)
    headings = _definitions(text, pattern, re.IGNORECASE if language == "sql" else 0) if pattern else ()
    return Document(uri, text, "code", headings, {"language": language})


def _definitions(text: str, pattern: str, flags: int) -> tuple[Heading, ...]:
    found: list[Heading] = []
    outer: list[int] = []  # indentations of the definitions that the current one stands in
    for match in islice(re.finditer(pattern, text, re.MULTILINE | re.VERBOSE | flags), MOST_HEADINGS):
        indent = len(match[1].expandtabs(4))
        while outer and outer[-1] >= indent:
            outer.pop()
        outer.append(indent)
        title = next(group for group in match.groups()[1:] if group is not None)
        found.append(Heading(match.start(), len(outer), title.strip()))
    return tuple(found)
