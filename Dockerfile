# docker build -t comfycord . && docker run --env-file .env comfycord
FROM python:3.12-slim AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --wheel-dir /wheels --require-hashes -r requirements.lock \
    && pip wheel --no-cache-dir --wheel-dir /wheels --no-deps .

FROM python:3.12-slim
RUN --mount=from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links /wheels "comfycord[postgres]"
RUN useradd --create-home --uid 1000 bot && install -d -o bot /bot
USER bot
WORKDIR /bot
# Mount a config.yaml of yours over this one, or tell COMFYUI_BASE_URL instead.
RUN comfycord init && mkdir data
VOLUME /bot/data /bot/workflows
# It asks the HTTP face. Where config.yaml has none (no `http.port`), a process that lives is enough.
HEALTHCHECK --start-period=30s --timeout=5s CMD ["python", "-c", "import urllib.request, yaml; \
    port = (yaml.safe_load(open('config.yaml')).get('http') or {}).get('port'); \
    port and urllib.request.urlopen(f'http://127.0.0.1:{port}/healthz', timeout=4)"]
# It closes what is open and ends within ten seconds; the next start goes on with every job.
STOPSIGNAL SIGTERM
CMD ["comfycord", "run"]
