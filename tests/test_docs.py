"""README and docs, as they are read on GitHub and as a site: links, pictures, size and words."""

from __future__ import annotations

import ast
import re
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TEXTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "apps/sample/README.md",
    *PAGES,
    *sorted((ROOT / "engines/models").glob("*.md")),
]
FENCE = re.compile(r"^( *)(```+|~~~+).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^()\s]+)(?: \"[^\"]*\")?\)")
ELSEWHERE = re.compile(r"^[a-z][a-z0-9+.-]*:", re.IGNORECASE)

# How the field says it; on the left what pages and messages are not to say.
WORDS = {
    r"\bmends?\b": "fix",
    r"\bleft alone\b": "left unchanged",
    r"\bholds? up\b": "block",
    r"\b(?:lets?|letting) (?:it |them )?go\b": "release",
    r"\bthe judge\b": "the emotion classifier",
    r"\btwins of\b": "variants of",
    r"\bstudents\b": "distilled",
    r"\banew\b": "again",
    r"\bwish(?:es)?\b": "target",
    r"\bnot there\b": "missing",
    r"look like teeth": "nothing, until they do",
    r"\btold of\b": "reported",
    r"\b(?:a|the|its|each|neither) floors?\b": "threshold",
}

# As WORDS, for names, comments and docstrings of the package as well.
CODE_WORDS = {
    r"(?i)(?:\b|_)anew(?:\b|_)": "again",
    r"(?i)\blest\b": "so that ... not",
    r"(?i)(?:\b|_)told[ _]of(?:\b|_)": "reported",
    r"(?i)(?:\b|_)let[ _]go(?:\b|_)": "release",
    r"(?i)(?:\b|_)left_alone(?:\b|_)": "unedited_parts",
    r"(?i)(?:\b|_)twins?(?:\b|_)": "variant",
    r"(?i)rehears": "fake-quantised",
    r"(?i)persua": "the emotion that a classifier names",
    r"(?i)(?:\b|_)shots?(?:\b|_)": "clip, frame, sequence",
    r"(?i)(?:\b|_)siege": "stress test",
    r"Judge\b": "classifier, reference",
    r"_FLOORS?\b|Floor\(": "threshold",
    r'"""Nothing[;,]': "what it does, in the imperative",
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose(path: Path) -> str:
    """The text of a page without its blocks of code."""
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def links(path: Path) -> Iterator[str]:
    """Where a page's links and pictures lead within the repository."""
    text = re.sub(r"`[^`\n]*`", "", prose(path))
    yield from (link for link in LINK.findall(text) if not ELSEWHERE.match(link))


def anchors(path: Path) -> set[str]:
    """The anchors that a page's headings have on GitHub and on the site alike."""
    return _numbered(path, _on_github) & _numbered(path, _on_the_site)


def _numbered(path: Path, slug: object) -> set[str]:
    assert callable(slug)
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", prose(path), re.MULTILINE):
        base = slug(re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", ""))
        if base not in found:  # a heading that comes twice has another anchor on each
            found.add(base)
    return found


def _on_github(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _on_the_site(heading: str) -> str:
    """As markdown.extensions.toc does."""
    plain = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


def problem_of(page: Path, link: str) -> str | None:
    """Why a link leads nowhere, None where it leads somewhere."""
    place, _, anchor = unquote(link).partition("#")
    target = (page.parent / place).resolve() if place else page
    if not target.is_relative_to(ROOT) or not target.exists():
        return f"{name_of(page)}: there is no {link}"
    if DOCS in page.parents and not target.is_relative_to(DOCS):
        return f"{name_of(page)}: {link} is no part of the site"
    if anchor and anchor not in anchors(target):
        return f"{name_of(page)}: {name_of(target)} has no heading #{anchor}"
    return None


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_each_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    problems = [problem for link in links(page) if (problem := problem_of(page, link))]
    assert problems == []


def test_a_dead_link_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    monkeypatch.setattr(sys.modules[__name__], "DOCS", tmp_path / "docs")
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("# Here\n")
    page = tmp_path / "docs" / "page.md"
    page.write_text(
        "# Two words\n[a](#two-words) [b](page.md#no) ![c](no.png) [d](../README.md)\n"
        "`[e](no.md)` [f](https://example.org)\n```\n[g](no.md)\n# no\n```\n"
    )
    assert [problem_of(page, link) for link in links(page)] == [
        None,
        "docs/page.md: docs/page.md has no heading #no",
        "docs/page.md: there is no no.png",
        "docs/page.md: ../README.md is no part of the site",
    ]


def test_every_page_is_in_the_site_once() -> None:
    listed = re.findall(
        r"- (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert sorted(listed) == [path.relative_to(DOCS).as_posix() for path in PAGES]


def test_every_page_is_reached_from_the_readme_or_the_first_page() -> None:
    starts = (ROOT / "README.md", DOCS / "index.md")
    reached = {
        (start.parent / link.partition("#")[0]).resolve()
        for start in starts
        for link in links(start)
    }
    assert set(PAGES) - reached == {DOCS / "index.md"}


def test_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) < 1000


@pytest.mark.parametrize(("picture", "most"), [("demo.webp", 1_500_000), ("failures.jpg", 300_000)])
def test_pictures_are_small_enough_to_load(picture: str, most: int) -> None:
    assert (DOCS / picture).stat().st_size <= most


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=name_of)
def test_pages_speak_the_language_of_the_field(page: Path) -> None:
    text = " ".join(prose(page).split())
    assert {word: instead for word, instead in WORDS.items() if re.search(word, text)} == {}


def messages(path: Path) -> Iterator[str]:
    """The texts in a module that people may see: all of its strings, and a command's docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    comments = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
        and not (path.name == "command.py" and isinstance(node, ast.FunctionDef))
    }
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in comments
        ):
            yield " ".join(node.value.split())


def test_messages_speak_the_language_of_the_field() -> None:
    folders = ("apps", "calibration", "engines", "export", "runtime")
    modules = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    pages = [*(ROOT / "apps/panel/static").glob("*.html")]
    texts = [(name_of(path), text) for path in modules for text in messages(path)]
    texts += [(name_of(path), path.read_text(encoding="utf-8")) for path in pages]
    wrong = [
        f"{where}: {found[0]}: {text[:80]}: {instead}"
        for where, text in texts
        for word, instead in WORDS.items()
        if (found := re.search(word, text))
    ]
    assert wrong == []


def test_modules_speak_the_language_of_the_field() -> None:
    folders = ("apps", "calibration", "engines", "export", "runtime", "training", "package")
    modules = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert len(modules) > 100
    wrong = [
        f"{name_of(path)}:{text.count(chr(10), 0, found.start()) + 1}: {found[0]}: {instead}"
        for path, text in ((path, path.read_text(encoding="utf-8")) for path in modules)
        for word, instead in CODE_WORDS.items()
        for found in re.finditer(word, text)
    ]
    assert wrong == []
