# syntax=docker/dockerfile:1
# Prefect's server, MLflow, the front page, the object store, and what prepares them: `studio:TAG prefect`, and so on. With
# --target metrics Prometheus and Alertmanager of Debian, with the configuration that our code makes.
ARG BASE=docker.io/library/python:3.11.14-slim-bookworm

FROM ${BASE} AS packages
WORKDIR /opt/studio
COPY requirements-dev.txt requirements-servers.txt ./
# uv by its hash, as `make setup` takes it.
RUN sed -n '/^uv==/,/[^\\]$/p' requirements-dev.txt > uv.txt \
    && python3.11 -m venv /opt/uv \
    && /opt/uv/bin/pip install --no-cache-dir --require-hashes --requirement uv.txt
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
RUN --mount=type=cache,target=/root/.cache/uv \
    /opt/uv/bin/uv venv --quiet --python python3.11 .venv \
    && /opt/uv/bin/uv pip sync --quiet --require-hashes --python .venv/bin/python requirements-servers.txt

FROM ${BASE} AS code
WORKDIR /opt/studio
COPY . .
# The file system of a container is read-only: what is not compiled here is compiled anew by each process.
RUN python3.11 -m compileall -q --invalidation-mode unchecked-hash .

FROM ${BASE} AS servers
# A user of its own number, which no user of the host has: files that a volume keeps are nobody else's. Of a tmpfs that is
# mounted over the folder root is the owner, with the folder's mode: so it is open, and the one in it is not.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini=0.19.0-* \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 studio \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/studio --shell /usr/sbin/nologin studio \
    && install --directory --owner studio --group studio --mode 1777 /var/lib/studio
COPY --from=packages /opt/studio/.venv /opt/studio/.venv
COPY --from=code /opt/studio /opt/studio
WORKDIR /opt/studio
# hadolint ignore=DL3064 # the folder of secrets, none of them
ENV HOME=/var/lib/studio \
    STUDIO_STATE_DIR=/var/lib/studio/state \
    STUDIO_SECRETS_DIR=/run/secrets \
    STUDIO_BIND=0.0.0.0
# tini ends what a killed flow run has left behind, which no service here would.
ENTRYPOINT ["/usr/bin/tini", "--", "/opt/studio/.venv/bin/python", "-m", "infra.container"]

FROM servers AS metrics
RUN apt-get update \
    && apt-get install --yes --no-install-recommends prometheus=2.42.0+ds-* prometheus-alertmanager=0.25.0-* \
    && rm -rf /var/lib/apt/lists/*
USER 10001:10001
HEALTHCHECK --interval=15s --timeout=6s --start-period=120s --retries=4 \
    CMD [".venv/bin/python", "-I", "-S", "infra/health.py", "http://127.0.0.1:9090/-/ready", "/run/secrets/prometheus"]
CMD ["prometheus"]

FROM servers AS studio
USER 10001:10001
HEALTHCHECK --interval=15s --timeout=6s --start-period=120s --retries=4 \
    CMD [".venv/bin/python", "-I", "-S", "infra/health.py", "http://127.0.0.1:8003/live"]
CMD ["studio"]
