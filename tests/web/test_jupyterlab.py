"""The page in JupyterLab, as a person uses it: the example notebook from its first cell to its last."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from notebook_site import DEMO, jupyterlab
from page_helpers import PATIENCE, FramedPage, wait_until

for library in ("jupyterlab", "ipykernel"):
    pytest.importorskip(library)


@pytest.mark.long
@pytest.mark.parametrize("proxy", [False, True])
def test_the_example_notebook_in_jupyterlab(tmp_path: Path, browser: Any, proxy: bool) -> None:
    notebook = tmp_path / "annotate.ipynb"
    shutil.copy(DEMO, notebook)
    if proxy:
        pytest.importorskip("jupyter_server_proxy")
        text = notebook.read_text()
        assert "overwrite=True)" in text
        notebook.write_text(text.replace("overwrite=True)", "proxy='/proxy/{port}/')"))
    with jupyterlab(tmp_path) as (address, query):
        tab = browser.new_page()
        tab.set_viewport_size({"width": 1400, "height": 1000})
        tab.goto(f"{address}/lab/tree/annotate.ipynb?{query}")
        tab.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]")
        tab.click("text=Run >> nth=0")
        tab.click("text=Run All Cells >> nth=0")
        page = FramedPage(tab)
        assert page.tab.url.startswith(f"{address}/proxy/" if proxy else "http://127.0.0.1:")
        page.tab.locator("#stage").scroll_into_view_if_needed()
        prompts = json.loads((tmp_path / "demo.prompts.json").read_text())["prompts"]
        page.drag(*prompts[0]["box"])
        page.outlines(0, 1, "preview")
        page.tab.click("#track")
        page.wait_saved()
        tab.screenshot(path=tmp_path / "page.png")
        page.tab.click("#finish")
        page.tab.wait_for_selector("#done[open]")
        said = tab.locator(".jp-OutputArea-output")
        wait_until(lambda: "'run.json'" in " ".join(said.all_text_contents()), 2 * PATIENCE)
        assert any(text.startswith("Box(object_id=1, frame=0") for text in said.all_text_contents())
        assert tab.locator(".jp-OutputArea-output img").count() == 3
        tab.locator(".jp-OutputArea-output img >> nth=1").scroll_into_view_if_needed()
        tab.screenshot(path=tmp_path / "results.png")
        tab.close()
