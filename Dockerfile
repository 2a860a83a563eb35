# One image for every role, on a CPU, a GPU host or a TPU VM:
#   docker build --build-arg ACCELERATOR=tpu --build-arg REVISION="$(git rev-parse HEAD)" \
#     -t efficientnet-x:tpu .                                     (tpu, gpu or cpu)
#   docker run efficientnet-x:tpu train.main --help               (a module, its arguments)
# docs/install.md has the commands of each machine.
ARG ACCELERATOR=cpu
# The index of all platforms. Docker Hub and public.ecr.aws answered with this digest in
# October 2026, as several public repositories write that pin it; not asked for here. Renew
# tag and digest together: docker buildx imagetools inspect python:3.11-slim-bookworm
ARG PYTHON=python:3.11.17-slim-bookworm@sha256:0a310eeecf4e1f5a0743f9a6520c90c88d089c903ca5fd283f501e3a805f5f89

FROM $PYTHON AS packages
# For the input pipeline's C++ ops; it stays behind in this stage. Of no version of its own:
# that of the base image's Debian.
# hadolint ignore=DL3008
RUN apt-get update -qq && apt-get install -qq --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
ARG ACCELERATOR
WORKDIR /app
COPY requirements requirements
# uv stays behind in this stage; .venv holds the lock's packages, and the lock: each
# package's version and hashes.
# --no-deps: the lock is complete for us, and leaves out on purpose what some packages ask
# for (on a TPU stock tensorflow, which would overwrite tensorflow-tpu).
RUN case "$ACCELERATOR" in \
      cpu) lock=core.txt ;; \
      gpu) lock=gpu.txt ;; \
      tpu) lock=tpu.txt ;; \
      *) echo "error: ACCELERATOR is tpu, gpu or cpu, not '$ACCELERATOR'" >&2; exit 2 ;; \
    esac \
    && python -m pip install --quiet --no-cache-dir --disable-pip-version-check \
      --root-user-action=ignore --require-hashes -r requirements/setup.txt \
    && python -m venv --without-pip .venv \
    && uv pip install --quiet --compile-bytecode --no-cache --python .venv/bin/python \
      --require-hashes --no-deps -r "requirements/$lock" \
    && cp "requirements/$lock" .venv/installed.txt
COPY common common
COPY input_pipeline input_pipeline
# Optional: on a processor that they are not for, the image does without them.
RUN .venv/bin/python -m input_pipeline.fused.build --optional

FROM $PYTHON
# By number, so that Kubernetes can see that it is not root (runAsNonRoot).
RUN useradd --uid 1000 --create-home trainer
WORKDIR /app
COPY --from=packages /app/.venv .venv
COPY common common
COPY models models
COPY input_pipeline input_pipeline
COPY train train
COPY performance performance
COPY tpu_compiler tpu_compiler
COPY preflight preflight
COPY launch launch
COPY gin_configs gin_configs
# They come with the modes that they have where the image is built: under umask 077 its
# user could not read them.
RUN chmod -R a+rX common models input_pipeline train performance tpu_compiler preflight \
      launch gin_configs
USER 1000:1000
# GKE puts NVIDIA's driver there.
ENV PATH=/app/.venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 \
    LD_LIBRARY_PATH=/usr/local/nvidia/lib64
ARG VERSION=unknown REVISION=unknown
LABEL org.opencontainers.image.title="EfficientNet-X" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.licenses="Apache-2.0"
# A process of its own, not a shell's: SIGTERM reaches the trainer, which saves.
ENTRYPOINT ["python", "-m"]
CMD ["train.main", "--help"]
