# The program with the bundled tasks, without a shell and without root.
#
#   docker build --tag balgrad .
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/work" balgrad train --data products.csv --out run
#   docker run --rm --publish 8000:8000 --volume "$PWD/run:/work/run:ro" balgrad serve run --host 0.0.0.0

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --package balgrad-trainer --bin balgrad

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/balgrad /usr/local/bin/balgrad
COPY --from=build /src/datasets /usr/local/share/balgrad/datasets
# The cache of features and weights: a volume here makes it outlive the container.
ENV BALGRAD_CACHE=/tmp/balgrad HF_HOME=/tmp/huggingface
WORKDIR /work
EXPOSE 8000
ENTRYPOINT ["/usr/local/bin/balgrad"]
CMD ["--help"]
