"""What every page of ours has around its body: one file that asks no network and runs nothing but what stands in it.

The policy in its head allows the style and the script of the page, by their hashes, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib

from verify.formats.page.markup import shown_plainly

__all__ = ["framed"]


def framed(body: str, *, title: str, style: str, script: str = "") -> str:
    """The whole document; `title` may be foreign text, `body` is markup already.

    >>> framed("<p>x", title="</title>", style="").count("</title>")
    1
    """
    ending = f"<script>{script}</script>\n" if script else ""
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n{_policy(style, script)}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f"<title>{shown_plainly(title)}</title>\n"
        f'<link rel="icon" href="data:,">\n<style>{style}</style>\n</head>\n<body>\n{body}\n{ending}</body>\n</html>\n'
    )


def _policy(style: str, script: str) -> str:
    rules = [
        "default-src 'none'",
        f"style-src '{_sha256(style)}'",
        *([f"script-src '{_sha256(script)}'"] if script else []),
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return f'<meta http-equiv="Content-Security-Policy" content="{"; ".join(rules)}">\n'


def _sha256(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
