"""The parts of the HTML report: each a pure function from values to markup. `page.css` and `page.js` lie beside them."""

from __future__ import annotations
