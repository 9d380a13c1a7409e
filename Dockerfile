# The production image of the service: no compiler, no pip, no sandbox, nothing of the local run (see .dockerignore).
# Give PYTHON_IMAGE a digest, or a mirror's name, where builds must be repeatable to the byte.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv --without-pip /opt/venv
# Only wheels, and only those whose hashes are locked: nothing that was downloaded is run before it was checked.
COPY requirements/service.txt requirements/dev.txt /tmp/
RUN python -m pip --python /opt/venv/bin/python install --require-hashes --only-binary :all: -r /tmp/service.txt
# What builds the project's own wheel stays in this stage.
RUN awk '/^(hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers)==/,!/\\$/' /tmp/dev.txt > /tmp/build.txt \
    && python -m pip install --require-hashes --only-binary :all: -r /tmp/build.txt
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY breaker ./breaker
COPY service ./service
# Bytecode is written now, because the root file system is read-only when it runs.
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir /tmp/wheels . \
    && python -m pip --python /opt/venv/bin/python install --no-deps --no-index /tmp/wheels/*.whl \
    && /opt/venv/bin/python -m compileall -q /opt/venv

FROM ${PYTHON_IMAGE}
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=build /opt/venv /opt/venv
# Alembic finds the migrations through pyproject.toml.
WORKDIR /app
COPY pyproject.toml ./
COPY migrations ./migrations
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
EXPOSE 8000
CMD ["uvicorn", "service.app:create_app", "--factory", "--host", "0.0.0.0", "--port", "8000", "--loop", "uvloop", "--no-access-log"]
