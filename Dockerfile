# syntax=docker/dockerfile:1

FROM rust:1-slim-trixie AS build
# OpenSSL is built from its source, which asks for make and the whole of perl; gcc is in the image.
RUN apt-get update && apt-get install -y --no-install-recommends make perl && rm -rf /var/lib/apt/lists/*
WORKDIR /build

# The dependencies alone, against empty targets: this layer is rebuilt only when Cargo.toml or Cargo.lock change.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src benches examples tests/it \
    && echo 'fn main() {}' | tee src/main.rs benches/compare.rs examples/embed.rs tests/it/main.rs >/dev/null \
    && touch src/lib.rs \
    && cargo build --release --locked --bin tenantry

COPY . .
# The copied files may be older than the empty ones were: without this cargo would keep the empty program.
RUN touch src/main.rs src/lib.rs && cargo build --release --locked --bin tenantry

FROM debian:trixie-slim
# Root certificates to verify databases by, and pg_dump, pg_restore and psql for backups: of 17, and by Debian's updates newer
# than 17.5, which servers from 14 to 17 can be copied with. Every other library is linked in, but for libc and libgcc.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates postgresql-client && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin tenantry \
    && install -d -o tenantry -g tenantry -m 0700 /var/lib/tenantry
COPY --from=build /build/target/release/tenantry /usr/local/bin/tenantry
COPY LICENSE-MIT LICENSE-APACHE /usr/share/doc/tenantry/

USER tenantry
WORKDIR /var/lib/tenantry
ENV TENANTRY_DATA_DIR=/var/lib/tenantry \
    TENANTRY_LISTEN=0.0.0.0:8080 \
    TENANTRY_MANAGEMENT_LISTEN=0.0.0.0:9090
EXPOSE 8080 9090
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["tenantry", "healthcheck"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["tenantry"]
CMD ["serve"]
