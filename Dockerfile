# One image for a TPU VM, a GPU host or a CPU:
#   docker build --build-arg ACCELERATOR=tpu -t efficientnet-x .     (tpu, gpu or cpu)
#   docker run --privileged --net=host -e TPU_NAME=local -e NEXT_PLUGGABLE_DEVICE_USE_C_API=true \
#     -e TF_PLUGGABLE_DEVICE_LIBRARY_PATH=/app/.venv/lib/python3.11/site-packages/libtpu/libtpu.so \
#     efficientnet-x --gin_file=... --model_dir=gs://...             (TPU VM, one host)
#   docker run --gpus=all efficientnet-x --gin_file=... --model_dir=...   (GPUs)
ARG ACCELERATOR=cpu

FROM python:3.11-slim-bookworm AS packages
ARG ACCELERATOR
WORKDIR /app
COPY requirements requirements
RUN case "$ACCELERATOR" in \
      cpu) lock=core.txt ;; \
      gpu) lock=gpu.txt ;; \
      tpu) lock=tpu.txt ;; \
      *) echo "error: ACCELERATOR is tpu, gpu or cpu, not '$ACCELERATOR'" >&2; exit 1 ;; \
    esac \
    && python -m venv .venv \
    && .venv/bin/pip install --quiet --no-cache-dir --require-hashes -r requirements/setup.txt \
    # --no-deps: the lock is complete for us, and leaves out on purpose what some packages
    # ask for (on a TPU stock tensorflow, which would overwrite tensorflow-tpu).
    && .venv/bin/uv pip install --quiet --compile-bytecode --no-cache --python .venv/bin/python \
      --require-hashes --no-deps -r "requirements/$lock"

FROM python:3.11-slim-bookworm
RUN useradd --create-home trainer
WORKDIR /app
COPY --from=packages /app/.venv .venv
COPY common common
COPY models models
COPY input_pipeline input_pipeline
COPY train train
COPY performance performance
COPY preflight preflight
COPY tpu_compiler tpu_compiler
COPY gin_configs gin_configs
USER trainer
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1
ENTRYPOINT ["python", "-m", "train.main"]
