# The production image of the service: no compiler, no pip, no sandbox, nothing of the local run (see .dockerignore).
# Give PYTHON_IMAGE a digest, or a mirror's name, where builds must be repeatable to the byte.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv --without-pip /opt/venv
COPY requirements/service.txt /tmp/requirements.txt
# Only wheels, and only those whose hashes are locked: nothing that was downloaded is run while the image is built.
RUN python -m pip --python /opt/venv/bin/python install --require-hashes --only-binary :all: -r /tmp/requirements.txt \
    && /opt/venv/bin/python -m compileall -q /opt/venv

FROM ${PYTHON_IMAGE}
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
COPY --from=build /opt/venv /opt/venv
# Alembic reads its settings from pyproject.toml.
COPY pyproject.toml ./
COPY breaker ./breaker
COPY service ./service
COPY migrations ./migrations
# Written down as bytecode now, because the root file system is read-only when it runs.
RUN python -m compileall -q /app
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
EXPOSE 8000
CMD ["uvicorn", "service.app:create_app", "--factory", "--host", "0.0.0.0", "--port", "8000", "--loop", "uvloop", "--no-access-log"]
