# A service around one finished run that answers without torch (`tagger export`), which is mounted:
#   docker build --tag tagger .
#   docker run --publish 8080:8080 --volume ./runs/NAME:/run-folder:ro --volume store:/store tagger
FROM python:3.11-slim AS build
WORKDIR /build
COPY pyproject.toml setup.py constraints.txt ./
COPY src src
COPY configs configs
COPY data/*.yaml data/
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir -c constraints.txt ".[service,postgres]"

FROM python:3.11-slim
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
RUN useradd --system --uid 10001 tagger && install --directory --owner tagger /store
USER 10001
WORKDIR /store
VOLUME /store
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["tagger", "serve", "--host", "0.0.0.0", "--store", "sqlite:////store/tagger.db"]
CMD ["--run", "/run-folder"]
