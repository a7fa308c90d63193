"""The auditor: what a run left in its stores is read, joined by `batch_id`, and compared with what it promises.

The rule kept here: it only reads, it parses what it audits by itself, and what it could not look at stands in the ledger.
"""

from __future__ import annotations
