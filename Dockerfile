# docker build -t comfycord .
FROM python:3.12-slim AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --wheel-dir /wheels ".[postgres]"

FROM python:3.12-slim
RUN --mount=from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links /wheels "comfycord[postgres]"
RUN useradd --create-home bot && install -d -o bot /bot
USER bot
WORKDIR /bot
RUN comfycord init && mkdir data
VOLUME /bot/data
STOPSIGNAL SIGTERM
CMD ["comfycord", "run"]
