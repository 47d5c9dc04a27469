"""The parts of the script that are always the same, in bash. They use the variables that `launch.launch_script` sets:
NAME, WHERE, WHAT, HOSTS, MODEL_DIR, VM, QUEUE, TRAIN.
"""

STATE = """\
state() {  # of the TPU VM: READY, PREEMPTED, ...; NONE where there is none, UNKNOWN where gcloud does not answer
  local rows
  rows=$("${VM[@]}" list "${WHERE[@]}" --format='value(name.basename(),state)') || { echo UNKNOWN; return; }
  awk -v name="$NAME" '$1 == name { found = $2 } END { print found ? found : "NONE" }' <<< "$rows"
}

on() {  # on HOSTS COMMAND: runs it there
  "${VM[@]}" ssh "$NAME" "${WHERE[@]}" --worker="$1" --command="$2"
}
"""

IMMEDIATE = """\
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
"""

QUEUED = """\
request() {  # the state of the request: WAITING_FOR_RESOURCES, ACTIVE, ...; NONE where there is none, or UNKNOWN
  local rows
  rows=$("${QUEUE[@]}" list "${WHERE[@]}" --format='value(name.basename(),state.state)') || { echo UNKNOWN; return; }
  awk -v name="$NAME" '$1 == name { found = $2 } END { print found ? found : "NONE" }' <<< "$rows"
}

create() {
  "${QUEUE[@]}" create "$NAME" --node-id="$NAME" "${WHERE[@]}" "${WHAT[@]}"
}

delete() {  # the request, and the TPU VM with it
  "${QUEUE[@]}" delete "$NAME" "${WHERE[@]}" --force --quiet
}

obtain() {  # waits for a TPU VM that is READY, for days if need be
  while [ "$(state)" != READY ]; do
    case "$(request)" in
      NONE) create || { echo "not requested; again in 5 minutes"; sleep 300; } ;;
      FAILED | SUSPENDED) delete || sleep 60 ;;  # refused, or preempted
      *) sleep 60 ;;
    esac
  done
}
"""

# Python of its own: the images have 3.10.
INSTALL = """\
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
"""

START = """\
start() {  # starts training apart from this connection, unless it runs
  on 0 "cat > train.sh <<'END_OF_FILE'
$TRAIN
END_OF_FILE
setsid nohup flock -n train.lock bash train.sh >> train.out 2>&1 < /dev/null &
sleep 2"
}
"""

# One program trains, on host 0; a server on every host lets it use that host's chips.
START_SLICE = """\
serve() {  # starts the servers, where they do not run
  local addresses
  addresses=$("${VM[@]}" describe "$NAME" "${WHERE[@]}" --format='value(networkEndpoints[].ipAddress)' |
    tr ';' '\\n' | sed 's/$/:8470/' | paste -s -d , -)
  on all "echo $addresses > workers"
  on all '
    number=$(curl -s -H "Metadata-Flavor: Google" \\
      http://metadata.google.internal/computeMetadata/v1/instance/attributes/agent-worker-number)
    cd clone
    setsid nohup flock -n ~/server.lock \\
      .venv/bin/python -m efficientnet_tpu.launch.tpu_worker "$number" "$(cat ~/workers)" \\
      >> ~/server.out 2>&1 < /dev/null &
    sleep 2'
}

""" + START.replace("  on 0", "  serve\n  on 0", 1)

MAIN = """\
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
"""
