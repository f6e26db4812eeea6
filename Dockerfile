# The image of every role, and (target `nodes`) of the development nodes of docker-compose.yml.
FROM python:3.11-slim-trixie AS cage
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /opt/cage
COPY requirements.lock ./
RUN pip install --require-hashes --no-deps -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY config config
COPY ledger ledger
COPY watchers watchers
COPY gateway gateway
COPY signer signer
RUN pip install --no-deps --no-build-isolation . \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin cage \
    # A named volume takes the owner of the folder that it is mounted over.
    && install -d -o 10001 -g 10001 -m 0700 /var/lib/cage /var/lib/cage-signer /var/lib/cage-anchor \
        /var/lib/cage-xpubs /run/cage-signer
USER 10001:10001
ENTRYPOINT ["cage"]

FROM cage AS nodes
USER 0:0
ENV CAGE_CACHE=/opt/nodes
RUN apt-get -qq update && apt-get -qq -y install debian-archive-keyring \
    && python -m gateway.sandbox.link_nodes /usr/local/bin \
    && install -d -o 10001 -g 10001 -m 0700 /var/lib/node
USER 10001:10001
ENTRYPOINT []
