"""One site for all tests of faults; after every test the invariants are asserted."""

import pytest

from faults.scene import Scene
from faults.site import Site


@pytest.fixture(scope="session")
def whole_site(static):
    with Site(static) as site:
        yield site


@pytest.fixture
def scene(whole_site):
    scene = Scene(whole_site)
    before = len(whole_site.said())
    yield scene
    broken = scene.end()
    assert not broken, "\n".join([*broken, whole_site.said()[-6000:] if len(whole_site.said()) != before else ""])
