"""What the tests of the report page share: pages, and a browser."""

import pytest

from converters.page import page
from converters.page.options import PageOptions
from tests.support import chromium, page_models


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    """Makes the page of each kind of task once; returns its path, the model and its rows' file."""
    base = tmp_path_factory.mktemp("pages")
    made = {}

    def make(kind):
        if kind not in made:
            name = kind.replace("'", "")
            model = page_models.make(base / name / "model", kind)
            csv = page_models.write_rows(base / f"{name}.csv", kind)
            options = PageOptions(data=str(csv), measure=False)
            written = page.write_page(base / name / "model", base / f"{name}.html", options)
            made[kind] = (written, model, csv)
        return made[kind]

    return make


@pytest.fixture(scope="module")
def driver():
    """A browser; its tests are skipped where there is none, or no compiler for the page's box."""
    if lacking := chromium.missing() or chromium.missing_compiler():
        pytest.skip(lacking)
    with chromium.opened() as found:
        yield found
