"""The contract of an accessor, held by one that lives outside of evsync. Run by tests/test_thirdparty.py."""

from evsync import Store
from evsync.testing.conformance import AccessorConformance


class TestIni(AccessorConformance):
    holds_null = False
    holds_absent = True

    def make_store(self, tmp_path):
        (tmp_path / "data.ini").touch()
        store = Store("ini", "ini:data.ini", root=tmp_path)
        store.bind(self.binding())
        return store
