#!/usr/bin/env bash
# Run the host script in the image of a job, on a machine that has docker.
#
# Environment: LAUNCH_IMAGE, LAUNCH_JOB, LAUNCH_GRACE (seconds), ACCELERATOR (tpu or gpu).
# Docker is told the names of variables, so that their values stand on no command line.
set -euo pipefail
passed=(LAUNCH_JOB LAUNCH_HOSTS JOB_COMPLETION_INDEX SKYPILOT_NODE_RANK SKYPILOT_NODE_IPS)
names=$(IFS=,; echo "${passed[*]}")
docker=(docker)
docker info >/dev/null 2>&1 || docker=(sudo --preserve-env="$names" docker)

# A registry of Google takes the token of the machine's service account.
registry=${LAUNCH_IMAGE%%/*}
case $registry in
  gcr.io | *.gcr.io | *.pkg.dev)
    path=computeMetadata/v1/instance/service-accounts/default/token
    curl --silent --show-error --fail --retry 5 --max-time 10 \
      --header 'Metadata-Flavor: Google' \
      "http://${GCE_METADATA_HOST:-metadata.google.internal}/$path" |
      sed -nE 's/.*"access_token": *"([^"]+)".*/\1/p' |
      "${docker[@]}" login --username=oauth2accesstoken --password-stdin \
        "https://$registry" >/dev/null
    ;;
esac
for wait in 10 30 60 0; do
  "${docker[@]}" pull --quiet "$LAUNCH_IMAGE" && break
  [ "$wait" -gt 0 ] || { echo "error: $LAUNCH_IMAGE cannot be pulled" >&2; exit 1; }
  sleep "$wait"
done

# memlock: libtpu pins its buffers (from memory). Its device files are root's.
options=(--net=host --ipc=host --ulimit=memlock=-1)
case $ACCELERATOR in
  tpu) options+=(--privileged --user=root) ;;
  gpu) options+=(--gpus=all) ;;
  *) echo "error: ACCELERATOR is tpu or gpu, not '$ACCELERATOR'" >&2; exit 2 ;;
esac

# sudo's own process takes no signals of ours, so docker itself is asked to hand SIGTERM on;
# more than once, since the container may be about to start.
# shellcheck disable=SC2329 # "trap" calls it
stop() {
  stopped=yes
  for _ in {1..30}; do
    "${docker[@]}" stop -t "$LAUNCH_GRACE" launch-host >/dev/null 2>&1 && break
    sleep 1
  done &
}
trap stop TERM INT
# What a shell that was killed has left would hold the chips.
"${docker[@]}" rm --force launch-host >/dev/null 2>&1 || true
"${docker[@]}" run --name=launch-host --rm --init "${options[@]}" \
  --stop-timeout="$LAUNCH_GRACE" "${passed[@]/#/--env=}" \
  --entrypoint=python "$LAUNCH_IMAGE" -m launch.host &
container=$!
while stopped=; status=0; wait "$container" || status=$?; [ -n "$stopped" ]; do :; done
exit "$status"
