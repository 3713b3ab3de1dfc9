from pathlib import Path

import pytest

from councilsite.tests.processes import Program


@pytest.fixture(scope="session")
def static(tmp_path_factory) -> Path:
    """A `var/` with the static files, as a deployment makes them once."""
    var = tmp_path_factory.mktemp("static")
    done = Program("manage.py", "collectstatic", "--no-input", VAR_DIR=str(var), SECRET_KEY="none", FIELD_KEYS=",")
    assert done.ends() == 0, done.said
    done.close()
    return var
