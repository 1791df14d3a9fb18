# python:3.11.16-slim-bookworm, the index of all platforms. Take a newer digest with `docker buildx imagetools inspect`.
FROM python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b AS python

FROM python AS build
WORKDIR /source
COPY . .
RUN k8s/image/build /opt/k2

FROM python
COPY --from=build /opt/k2 /opt/k2
# A volume begins with the owner of the folder that it covers.
RUN install -d -o 65532 -g 65532 /var/lib/k2
# NUMBA_CPU_NAME is that of the build: with another one the rules would be compiled again at each start.
# What is written outside of the mounted folders is written to /tmp, so the root may be read-only.
ENV PATH=/opt/k2/bin:$PATH \
    NUMBA_CPU_NAME=generic \
    HOME=/tmp \
    XDG_CACHE_HOME=/tmp/cache \
    K2_DATA_DIR=/var/lib/k2 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /tmp
USER 65532:65532
# Metrics and probes of the job, and the port of `k2 serve`.
EXPOSE 9464 8080
# Of the job; Kubernetes has probes of its own.
HEALTHCHECK --start-period=2m --interval=15s --timeout=6s --retries=4 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9464/healthz', timeout=5)"]
# k2 passes signals on as process 1, and reaps orphans.
ENTRYPOINT ["k2"]
CMD ["run", "--supervise"]
