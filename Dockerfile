# One image for every process of Kopilka; the command picks the service and its role: `ledger worker`, `orders migrate`.
ARG PYTHON=python:3.12-slim-bookworm

FROM ${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/kopilka
WORKDIR /src
# The lock alone first: the layer of other people's packages is rebuilt only when the lock changes.
COPY requirements.lock ./
RUN /opt/kopilka/bin/pip install --require-hashes -r requirements.lock
COPY libs libs
COPY services services
COPY apps/sandbox apps/sandbox
# hatchling comes from the lock, so nothing that builds our packages is downloaded without a hash.
RUN /opt/kopilka/bin/pip install --no-deps --no-build-isolation ./libs/* ./services/* ./apps/sandbox

FROM ${PYTHON}
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin kopilka
COPY --from=build /opt/kopilka /opt/kopilka
ENV PATH=/opt/kopilka/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    KOPILKA_HTTP_HOST=0.0.0.0 \
    KOPILKA_HTTP_PORT=8080 \
    KOPILKA_HTTP_INNER_PORT=9090
USER 10001:10001
WORKDIR /tmp
# 9090 has metrics and readiness, for probes and operators; it is to be published nowhere.
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
# Ready, not merely alive: the answer names what is missing. The image has no curl.
HEALTHCHECK --interval=5s --timeout=4s --start-period=30s --retries=5 \
  CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + (os.environ['KOPILKA_HTTP_INNER_PORT'] or os.environ['KOPILKA_HTTP_PORT']) + '/health/ready', timeout=3)"]
CMD ["kopilka", "help"]
