# One image for all servers; `args` choose which: docker run fomofeed:0.1.0 services.clip
# Models are converted and verified in a stage of their own and lie read-only in /models: a server
# never fetches anything. For GPUs build with requirements of the `gpu` extra instead.

FROM python:3.11-slim-bookworm AS build
WORKDIR /build
COPY requirements/run.txt requirements/
RUN python -m venv /opt/venv && \
    /opt/venv/bin/pip install --no-cache-dir --require-hashes -r requirements/run.txt
COPY . .
RUN PATH="/opt/venv/bin:$PATH" /opt/venv/bin/pip wheel --no-cache-dir --no-build-isolation --no-deps \
        --wheel-dir dist . && \
    /opt/venv/bin/pip install --no-cache-dir --no-deps dist/*.whl

FROM build AS models
RUN /opt/venv/bin/fomofeed models pull --repository /models && \
    /opt/venv/bin/fomofeed models verify --repository /models

FROM python:3.11-slim-bookworm
ENV PATH="/opt/venv/bin:$PATH" PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY --from=build /opt/venv /opt/venv
COPY --from=models /models /models
WORKDIR /tmp
USER 10001:10001
ENTRYPOINT ["python", "-m"]
CMD ["services.gateway"]
