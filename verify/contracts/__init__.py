"""The suites that a backend of yours must pass: derive a test class from one, say how to make a store, run pytest.

    from verify.contracts import BatchTableContract

    class TestPostgresBatchTable(BatchTableContract):
        def create(self): ...
        def connect(self, store): ...
        def raw_read(self, store, batch_id): ...
        def raw_write(self, store, batch_id, item): ...

Each suite reads and writes around the port as well as through it, and races sixteen connections. Needs pytest, which the
extra `testing` installs.
"""

from __future__ import annotations

from embedpipe.errors import missing_extra

try:
    import pytest
except ImportError:
    raise missing_extra("testing", "pytest") from None

# Without this, a failing assertion of a suite would not show its values. It must come before the suites are imported.
pytest.register_assert_rewrite(
    "verify.contracts._base",
    "verify.contracts.blob_store",
    "verify.contracts.blob_keys",
    "verify.contracts.batch_table",
    "verify.contracts.vector_store",
    "verify.contracts.vector_versions",
    "verify.contracts.batch_provider",
)

from verify.contracts.batch_provider import BatchProviderContract  # noqa: E402  see above
from verify.contracts.batch_table import BatchTableContract  # noqa: E402  see above
from verify.contracts.blob_store import BlobStoreContract  # noqa: E402  see above
from verify.contracts.vector_store import VectorStoreContract  # noqa: E402  see above

__all__ = ["BatchProviderContract", "BatchTableContract", "BlobStoreContract", "VectorStoreContract"]
