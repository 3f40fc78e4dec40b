import pytest

def test_passes(): pass
def test_fails():
    print("said before")
    assert 1 == 2
@pytest.mark.skip(reason="no such machine")
def test_skips(): pass
@pytest.mark.xfail(reason="known")
def test_expected(): assert False
@pytest.mark.xfail(strict=True, reason="known")
def test_strict(): pass
@pytest.fixture
def broken(): raise RuntimeError("\x1b[1mno fixture\x1b[0m")
def test_error(broken): pass
@pytest.fixture
def leaves():
    yield
    raise RuntimeError("cannot clean up")
def test_both(leaves): assert False
