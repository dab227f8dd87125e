from __future__ import annotations

import base64
import io
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

VOID = {"meta", "img", "link", "br"}
DATA = "data:image/png;base64,"


class ParsedPage(HTMLParser):
    """What a browser would find: texts by tag, tables as rows of (text, number?, bold?), decoded pictures."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.rows: list[list[tuple[str, bool, bool]]] = []
        self.images: list[tuple[np.ndarray, str]] = []
        self.addresses: list[str] = []
        self.number = False
        self.feed(html)
        self.close()
        assert self.open == [], "every tag is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        self.addresses += [values[key] or "" for key in ("src", "href") if key in values]
        if tag == "img":
            png = base64.b64decode((values["src"] or "").removeprefix(DATA), validate=True)
            self.images.append((np.asarray(Image.open(io.BytesIO(png)).convert("RGB")), values["alt"] or ""))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.number = values.get("class") == "number"
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or not data.strip():
            return
        self.texts.setdefault(self.open[-1], []).append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1].append((data, self.number, "strong" in self.open))

    @property
    def cells(self) -> list[list[str]]:
        return [[text for text, _, _ in row] for row in self.rows]


@pytest.fixture
def read_page() -> Callable[[Path], ParsedPage]:
    """Parse a page; it must load nothing, run nothing, and have one title and one h1."""

    def read(path: Path) -> ParsedPage:
        text = path.read_text(encoding="utf-8")
        page = ParsedPage(text)
        assert text.startswith("<!DOCTYPE html>") and "url(" not in text and "@import" not in text
        assert not {"script", "link", "iframe", "object"} & set(page.tags)
        assert all(address.startswith(DATA) for address in page.addresses)
        assert len(page.texts["title"]) == len(page.texts["h1"]) == 1
        return page

    return read
