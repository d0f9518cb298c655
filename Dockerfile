# One image for every process of the first set-up; compose chooses the command. Non-root, from the hashed requirements.
FROM python:3.11-slim
ENV PYTHONUNBUFFERED=1 TZ=UTC MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
WORKDIR /app
COPY . .
RUN python -m venv .venv && .venv/bin/python requirements/install.py run \
    && useradd --create-home vigie && mkdir /data && chown vigie /data
USER vigie
ENV PATH=/app/.venv/bin:$PATH VIGIE_DATA=/data VIGIE_FEATURE_REPO=/app/feature_repo
VOLUME /data
