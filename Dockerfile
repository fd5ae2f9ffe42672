# The command samvideo, without root; see docs/container.md.
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS base
# OpenCV needs libGL and GLib.
RUN apt-get update && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 && rm -rf /var/lib/apt/lists/*
ENV PATH=/opt/samvideo/bin:$PATH

FROM base AS installed
# Of the CPU, or of CUDA, as https://download.pytorch.org/whl/cu130, whose wheels bring the libraries of CUDA along.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /src
RUN python3 -m venv /opt/samvideo
RUN --mount=type=cache,target=/root/.cache/pip pip install --index-url "$TORCH_INDEX" torch torchvision
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip pip install .

# docker build --target test .
FROM installed AS test
RUN apt-get update && apt-get install -y --no-install-recommends chromium g++ && rm -rf /var/lib/apt/lists/*
RUN --mount=type=cache,target=/root/.cache/pip pip install --editable '.[dev]'
RUN useradd --create-home --uid 10001 tester && chown -R tester /src
USER 10001
ARG TESTS=tests
RUN python -m pytest -n auto --dist loadfile -p no:cacheprovider $TESTS

FROM base AS runtime
COPY --from=installed /opt/samvideo /opt/samvideo
# Weights are downloaded to /models; any user may be given to `docker run --user`.
RUN useradd --create-home --uid 10001 samvideo && install -d -m 1777 /data /models
ENV SAMVIDEO_HOME=/models MPLCONFIGDIR=/tmp
USER 10001
WORKDIR /data
ENTRYPOINT ["samvideo"]
CMD ["--help"]
