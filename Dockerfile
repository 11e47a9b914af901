# python -m build --wheel && docker build -t compnet3d . && docker run -p 127.0.0.1:8000:8000 -v "$PWD/MODEL:/model:ro" compnet3d
FROM python:3.12-slim
COPY dist/*.whl /wheels/
RUN pip install --no-cache-dir torch --index-url https://download.pytorch.org/whl/cpu \
    && pip install --no-cache-dir "$(ls /wheels/*.whl)[serve]" \
    && useradd --create-home compnet3d
USER compnet3d
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz')"]
ENTRYPOINT ["compnet3d", "serve", "/model", "--host", "0.0.0.0"]
