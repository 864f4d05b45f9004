"""The documents say what the code does: the schema as it is derived, every field and every test by its name."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from pydantic import BaseModel

from ssmd_common import events
from ssmd_common.archive import balance, certificate, index, manifest
from ssmd_common.archive.columns import Columns
from ssmd_common.archive.gaps import Gap, GapLayer, GapStatus


def _docs() -> Path:
    """Return the folder of documents, in the repository or where a build laid it out."""
    for folder in (Path.cwd(), *Path.cwd().parents, *Path(__file__).parents):
        if (folder / "docs" / "manifest.schema.json").is_file():
            return folder / "docs"
    raise AssertionError("docs/manifest.schema.json is not beside the tests")


def test_the_committed_schema_is_that_of_the_models() -> None:
    assert (_docs() / "manifest.schema.json").read_text("utf-8") == manifest.manifest_schema()


_EVENTS: list[type[msgspec.Struct]] = list(events.CaptureEvent.__subclasses__())
_LINES: list[type[msgspec.Struct]] = list(index.IndexLine.__subclasses__())
_STRUCTS: list[type[msgspec.Struct]] = [*_EVENTS, *_LINES, Gap, events.ConnectionState, index.ConnectionFrames]
_ENTRIES: list[type[BaseModel]] = [
    manifest.Manifest,
    manifest.FileEntry,
    manifest.GapEntry,
    manifest.SessionEntry,
    manifest.EpochEntry,
    manifest.AnomalyEntry,
    certificate.Certificate,
    balance.ConnectionBalance,
    certificate.LayerGaps,
    certificate.CertifiedFile,
]


@pytest.mark.parametrize("struct", _STRUCTS, ids=lambda struct: struct.__name__)
def test_every_field_of_an_event_and_of_an_index_line_is_explained(struct: type[msgspec.Struct]) -> None:
    text = (_docs() / "formats.md").read_text("utf-8")
    tag = struct.__struct_config__.tag
    names = [*struct.__struct_fields__, *([str(tag)] if tag else [])]
    assert [name for name in names if f"`{name}`" not in text] == []


@pytest.mark.parametrize("entry", _ENTRIES, ids=lambda entry: entry.__name__)
def test_every_field_of_a_manifest_and_a_certificate_is_explained(entry: type[BaseModel]) -> None:
    text = (_docs() / "formats.md").read_text("utf-8")
    assert [name for name in entry.model_fields if f"`{name}`" not in text] == []


def test_every_column_layer_and_status_is_explained() -> None:
    text = (_docs() / "formats.md").read_text("utf-8")
    names = [*Columns.__dataclass_fields__, *GapLayer, *GapStatus]
    assert [name for name in names if f"`{name}`" not in text] == []


_TEST = re.compile(r"`([a-z_]+_test\.py)::(test_[a-z0-9_]+)`")


def test_every_test_the_documents_name_exists() -> None:
    root = _docs().parent
    folders = [root / name for name in ("libs", "services", "deploy", "tests")]
    sources = {path for folder in folders for path in folder.rglob("*_test.py")}
    written = {
        (path.name, name) for path in sources for name in re.findall(r"def (test_\w+)\(", path.read_text("utf-8"))
    }
    if not sources - set((root / "tests").rglob("*_test.py")):
        pytest.skip("the tests' sources are not laid out here; in a checkout this is checked")
    pages = [page.read_text("utf-8") for page in sorted(_docs().glob("*.md"))]
    named = {found for page in pages for found in _TEST.findall(page)}
    assert sorted(named - written) == []


_LINK = re.compile(r"\]\(([a-z-]*(?:\.md)?)#([^)\s]+)\)")


def _anchors(page: str) -> set[str]:
    """Return the anchors of a page's headings, as they are made where Markdown is shown."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_heading_a_document_links_to_exists() -> None:
    pages = {page.name: page.read_text("utf-8") for page in _docs().glob("*.md")}
    anchors = {name: _anchors(text) for name, text in pages.items()}
    links = [(name, other or name, anchor) for name, text in pages.items() for other, anchor in _LINK.findall(text)]
    assert links
    assert [link for link in links if link[2] not in anchors.get(link[1], set())] == []
