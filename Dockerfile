# One image for every process of a deployment: `realname topics apply`, `worker`, `projector`.
# Only what the locks name by hash is installed.

FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements.lock requirements-build.lock ./
RUN python -m venv /opt/realname \
    && /opt/realname/bin/pip install --require-hashes --only-binary :all: -r requirements.lock \
    && pip install --require-hashes --only-binary :all: -r requirements-build.lock
COPY . .
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/realname/bin/pip install --no-deps --no-index /wheels/*.whl

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/realname realname
COPY --from=build /opt/realname /opt/realname
ENV PATH=/opt/realname/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
WORKDIR /var/lib/realname
ENTRYPOINT ["realname"]
