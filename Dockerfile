# lets serve. CPU (default): docker build -t lets . ; CUDA: docker build --target cuda -t lets:cuda .
# docker run -p 127.0.0.1:8080:8080 -v $PWD/packs:/packs:ro -v $PWD/encoder:/encoder:ro lets

FROM python:3.11.9-slim-bookworm AS build-cpu
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu
WORKDIR /source
COPY . .
RUN LETS_WITH_CUDA=0 LETS_REQUIRE_EXT=1 pip wheel --no-cache-dir --no-deps -w /wheels .

FROM nvidia/cuda:12.8.1-devel-ubuntu22.04 AS build-cuda
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ python3.11 python3.11-dev python3.11-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3.11 -m venv /venv
RUN /venv/bin/pip install --no-cache-dir torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu
WORKDIR /source
COPY . .
RUN LETS_WITH_CUDA=1 LETS_REQUIRE_EXT=1 /venv/bin/pip wheel --no-cache-dir --no-deps -w /wheels .

FROM python:3.11.9-slim-bookworm AS server
RUN useradd --create-home --uid 1000 lets
EXPOSE 8080
ENV HF_HUB_DISABLE_TELEMETRY=1
# Whoever reaches the published port may ask: -p 8080:8080 is every interface of the host, so give
# that one a key (-e LETS_API_KEY). The admin port stays off unless asked for.
ENTRYPOINT ["lets", "serve", "--host", "0.0.0.0", "--encoder", "/encoder"]
CMD ["/packs"]
HEALTHCHECK --start-period=60s CMD \
    python -c "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/health', timeout=2)"

FROM server AS cuda
RUN pip install --no-cache-dir torch==2.13.0 --index-url https://download.pytorch.org/whl/cu128
COPY --from=build-cuda /wheels /wheels
RUN pip install --no-cache-dir "$(echo /wheels/*.whl)[serve]" && rm -rf /wheels
USER lets
CMD ["--device", "cuda", "/packs"]

FROM server AS cpu
RUN pip install --no-cache-dir torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu
COPY --from=build-cpu /wheels /wheels
RUN pip install --no-cache-dir "$(echo /wheels/*.whl)[serve]" && rm -rf /wheels
USER lets
