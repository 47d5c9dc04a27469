#!/usr/bin/env bash
# Trains efficientnet-b0 on a TPU v4-32: 4 hosts, spot.
# Printed by `main.py launch --print`. Run it in a clone of this project, logged in by `gcloud auth login`; interrupted,
# run it again: it goes on with what is there. The TPU costs money from `create` to `delete`, the last line.
# Slices of several hosts are untested, and no TPU has run this yet: docs/tpu.md says what is verified. Expect to have
# to work on `start`.
set -euo pipefail

NAME=efficientnet
WHERE=(--zone=us-central2-b --project=photos)
WHAT=(--accelerator-type=v4-32 --version=tpu-ubuntu2204-base --spot)
HOSTS=all
MODEL_DIR=gs://photos/runs/b0
VM=(gcloud compute tpus tpu-vm)
QUEUE=(gcloud compute tpus queued-resources)

# What runs on the TPU VM. Status 42: stopped from outside, with everything saved; the same command goes on.
read -r -d '' TRAIN <<'END_OF_TRAIN' || true
cd ~/clone
rm -f ~/train.status
status=42
while [ $status = 42 ]; do
  TPU_LOAD_LIBRARY=0 .venv/bin/python main.py --tpu="grpc://$(cat ~/workers)" --model_dir=gs://photos/runs/b0 --data_dir=gs://photos/imagenet
  status=$?
  sleep 5
done
echo $status > ~/train.status
END_OF_TRAIN

state() {  # of the TPU VM: READY, PREEMPTED, ...; NONE where there is none, UNKNOWN where gcloud does not answer
  local rows
  rows=$("${VM[@]}" list "${WHERE[@]}" --format='value(name.basename(),state)') || { echo UNKNOWN; return; }
  awk -v name="$NAME" '$1 == name { found = $2 } END { print found ? found : "NONE" }' <<< "$rows"
}

on() {  # on HOSTS COMMAND: runs it there
  "${VM[@]}" ssh "$NAME" "${WHERE[@]}" --worker="$1" --command="$2"
}

create() {
  "${VM[@]}" create "$NAME" "${WHERE[@]}" "${WHAT[@]}"
}

delete() {
  "${VM[@]}" delete "$NAME" "${WHERE[@]}" --quiet
}

obtain() {  # waits for a TPU VM that is READY
  while :; do
    case "$(state)" in
      READY) return ;;
      NONE) create || { echo "not created; again in 5 minutes"; sleep 300; } ;;
      STOPPED) "${VM[@]}" start "$NAME" "${WHERE[@]}" || sleep 60 ;;
      PREEMPTED | TERMINATED) delete || sleep 60 ;;  # it does not come back
      *) sleep 30 ;;
    esac
  done
}

install() {  # copies this clone to every host, and installs what it needs
  tar -czf "/tmp/$NAME.tgz" main.py efficientnet_tpu flags requirements-tpu.txt
  "${VM[@]}" scp "/tmp/$NAME.tgz" "$NAME:clone.tgz" "${WHERE[@]}" --worker="$HOSTS"
  on "$HOSTS" '
    set -e
    mkdir -p clone
    tar -xzf clone.tgz -C clone
    python3 -m pip install --quiet --user uv
    [ -d clone/.venv ] || python3 -m uv venv --quiet --python 3.12 clone/.venv
    python3 -m uv pip install --quiet --python clone/.venv/bin/python -r clone/requirements-tpu.txt'
}

serve() {  # starts the servers, where they do not run
  local addresses
  addresses=$("${VM[@]}" describe "$NAME" "${WHERE[@]}" --format='value(networkEndpoints[].ipAddress)' |
    tr ';' '\n' | sed 's/$/:8470/' | paste -s -d , -)
  on all "echo $addresses > workers"
  on all '
    number=$(curl -s -H "Metadata-Flavor: Google" \
      http://metadata.google.internal/computeMetadata/v1/instance/attributes/agent-worker-number)
    cd clone
    setsid nohup flock -n ~/server.lock \
      .venv/bin/python -m efficientnet_tpu.launch.tpu_worker "$number" "$(cat ~/workers)" \
      >> ~/server.out 2>&1 < /dev/null &
    sleep 2'
}

start() {  # starts training apart from this connection, unless it runs
  serve
  on 0 "cat > train.sh <<'END_OF_FILE'
$TRAIN
END_OF_FILE
setsid nohup flock -n train.lock bash train.sh >> train.out 2>&1 < /dev/null &
sleep 2"
}

watch() {  # waits for the end of training; fails where there is none to wait for
  local now
  while :; do
    case "$(state)" in READY | UNKNOWN) ;; *) return 1 ;; esac
    now=$(on 0 'tail -n 1 train.out >&2
      if flock -n train.lock true; then cat train.status 2> /dev/null || echo none; else echo running; fi') || now=away
    case "$now" in
      running | away) sleep 60 ;;
      none) return 1 ;;
      0) return 0 ;;
      *)
        echo "training ended with status $now; its last words:"
        on 0 'tail -n 20 train.out'
        echo "The TPU still costs money. Repair it, remove train.status there and run this again; or delete the TPU."
        exit 1
        ;;
    esac
  done
}

until obtain && watch; do
  obtain
  install
  start
done
mkdir -p "$NAME"
gcloud storage cp --recursive "$MODEL_DIR"/{run.json,labels.txt,log.jsonl,best} "$NAME/"
delete
