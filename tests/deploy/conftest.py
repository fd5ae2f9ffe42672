from pathlib import Path

import pytest
from tiny_sam import EXPORTED, tiny_model


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported tiny model; not to be changed."""
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    from samvideo.deploy.bundle import export_model

    return export_model(tiny_model(**EXPORTED), tmp_path_factory.mktemp("export") / "tiny")
