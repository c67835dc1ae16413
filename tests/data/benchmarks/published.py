"""Where the reference lists and episodes stand, for the tests that compare with them."""

from pathlib import Path

import pytest

PROTOCOLS = Path(__file__).resolve().parents[4] / "shared" / "protocols"
needs_protocols = pytest.mark.skipif(not PROTOCOLS.is_dir(), reason="no published lists here")
