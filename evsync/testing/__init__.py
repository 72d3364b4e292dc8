"""What the tests of an accessor need; wants pytest to be installed.

`evsync.testing.conformance.AccessorConformance` is the contract of `evsync.accessor` as a test class.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("evsync.testing.conformance")
