"""The page of a report read back, without a browser: its elements, their text, and its findings."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "link", "input", "rect"}


class Read(HTMLParser):
    """A page as text: of each element with a class or tag that is asked for. What is spelled out is read back."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.tags: list[str] = []
        self.texts: dict[int, str] = {}
        self.elements: list[tuple[int, str, dict[str, str | None], tuple[int, ...]]] = []
        self._path: list[int] = []
        self.feed(page)
        self.close()
        assert self._path == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        number = len(self.elements)
        self.elements.append((number, tag, dict(attributes), tuple(self._path)))
        self.texts[number] = ""
        if tag not in VOID and not self.get_starttag_text().endswith("/>"):  # type: ignore[union-attr]
            self._path.append(number)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self._path.pop()][1] == tag

    def handle_data(self, data: str) -> None:
        if self._path and self.elements[self._path[-1]][2].get("class") == "odd":
            data = chr(int(data.removeprefix("U+"), 16))
        for number in self._path:
            self.texts[number] += data

    def all(self, tag: str, name: str | None = None, within: int | None = None) -> list[int]:
        return [
            number
            for number, other, attributes, path in self.elements
            if other == tag
            and (name is None or name in (attributes.get("class") or "").split())
            and (within is None or within in path)
        ]

    def findings(self) -> Iterator[Any]:
        """Code, place, batches and evidence of each."""
        for number in self.all("li", "finding"):
            places, names = self.all("p", "place", number), self.all("li", "batch", number)
            sides = self.all("dl", "sides", number)[0]
            keys, values = self.all("dt", within=sides), self.all("dd", within=sides)
            yield (
                self.elements[number][2]["data-code"],
                self.texts[places[0]],
                tuple(self.texts[name] for name in names),
                {self.texts[key]: self.texts[seen] for key, seen in zip(keys, values, strict=True)},
            )
