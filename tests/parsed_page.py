"""Pages as a browser would find them, for the tests of whatever writes one."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

VOID = {"meta", "img", "link", "br"}
DATA = re.compile(r"data:image/(jpeg|png);base64,")


class ParsedPage(HTMLParser):
    """Elements with their attributes, texts by tag, tables as rows of (text, number?, bold?), decoded pictures."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, list[str]] = {}
        self.rows: list[list[tuple[str, bool, bool]]] = []
        self.images: list[np.ndarray] = []
        self.number = False
        self.feed(html)
        self.close()
        assert self.open == [], "every tag is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.elements.append((tag, values))
        if tag == "img":
            data = base64.b64decode(DATA.sub("", values["src"]), validate=True)
            self.images.append(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.number = values.get("class") == "number"
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        data = data.strip()
        if not self.open or not data:
            return
        self.texts.setdefault(self.open[-1], []).append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1].append((data, self.number, "strong" in self.open))

    @property
    def cells(self) -> list[list[str]]:
        return [[text for text, _, _ in row] for row in self.rows]

    @property
    def tags(self) -> list[str]:
        return [tag for tag, _ in self.elements]

    def all(self, tag: str, css_class: str | None = None) -> list[dict[str, str]]:
        """The attributes of every element of this name, and of this class where one is given."""
        found = [values for name, values in self.elements if name == tag]
        return [v for v in found if css_class is None or css_class in v.get("class", "").split()]


def read_page(path: Path) -> ParsedPage:
    """Parse a page; it must load nothing, run only its own script, and have one title and one h1."""
    text = path.read_text(encoding="utf-8")
    page = ParsedPage(text)
    assert text.startswith("<!DOCTYPE html>") and "@import" not in text and "url(http" not in text
    assert not {"link", "iframe", "object", "video"} & set(page.tags) and page.tags.count("script") == 1
    assert all(DATA.match(image["src"]) for image in page.all("img")) and "src" not in page.all("script")[0]
    assert not any(link["href"].startswith(("http:", "https:", "/", "javascript:")) for link in page.all("a"))
    names = [values["id"] for _, values in page.elements if "id" in values]
    assert len(names) == len(set(names))
    assert len(page.texts["title"]) >= 1 and len(page.texts["h1"]) == 1
    return page
