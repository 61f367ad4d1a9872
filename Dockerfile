# The pipeline and its tests, which need no network once the image is built.
#   docker build -t remerge .
#   docker run --rm --network none -v "$PWD/results:/remerge/results" remerge              # make demo
#   docker run --rm --network none remerge make test
FROM python:3.11-slim-bookworm

RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc git libc6-dev make \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /remerge
COPY . .
RUN make .venv/dev

ENV HF_HUB_OFFLINE=1 PATH=/remerge/.venv/bin:$PATH
CMD ["make", "demo"]
