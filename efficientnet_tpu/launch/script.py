"""The parts of the script that are always the same, in bash. They use the variables that `launch.launch_script` sets:
NAME, ZONE, TYPE, WHERE, CONNECT, WHAT, HOSTS, MODEL_DIR, BUCKETS, MAX_SECONDS, VM, MAKE, QUEUE, TRAIN.
"""

import shlex

from efficientnet_tpu.texts.known_errors import KNOWN_ERRORS, advice

# How long after the hours of --max_hours this script ends a TPU VM that does not answer, and how long the TPU VM waits
# before it ends itself. By then the training has saved.
GRACE_SECONDS, OWN_GRACE_SECONDS = 900, 1800

# Shows an error of gcloud, and what it means; fails where trying again does not help.
EXPLAIN = "\n".join(
    [
        "explain() {  # explain FILE: shows an error of gcloud and its cause; fails where trying again does not help",
        '  cat "$1" >&2',
        *(
            f'  if grep -qE {shlex.quote(known.pattern)} "$1"; then\n'
            f"    echo {shlex.quote(f'{known.name}: {known.cause}.')} >&2\n"
            f"    echo {shlex.quote(advice(known.command()))} >&2\n"
            f"    return {int(known.lasting)}\n"
            "  fi"
            for known in KNOWN_ERRORS
            if known.of_gcloud
        ),
        "}\n",
    ]
)

DRY_RUN = """\
if [ "${1:-}" = --dry-run ]; then  # prints the commands, quoted as they would be run, and runs none
  DRY_RUN=1
  gcloud() { printf 'gcloud'; printf ' %q' "$@"; printf '\\n'; }
  tar() { :; }
  rm() { :; }
fi
"""

CHECK = """\
refuse() {
  echo "$1" >&2
  exit 2
}

check() {  # what would fail only after minutes, or cost what nobody expects
  local region=${ZONE%-*} bucket place
  gcloud compute tpus accelerator-types describe "$TYPE" "${WHERE[@]}" > /dev/null 2> "$NAME/error" || {
    explain "$NAME/error" || true
    refuse "$TYPE: gcloud finds no such TPU type in $ZONE; nothing was made. What there is: \\
gcloud compute tpus accelerator-types list ${WHERE[*]}"
  }
  for bucket in "${BUCKETS[@]}"; do
    place=$(gcloud storage buckets describe "$bucket" --format='value(location)' | tr '[:upper:]' '[:lower:]') ||
      refuse "$bucket: gcloud cannot look at it; nothing was made. Is it there, and may you read it?"
    case "$region:$place" in
      "$region:$region") ;;
      us-*:us | us-*:nam[0-9]* | europe-*:eu | europe-*:eur[0-9]* | asia-*:asia | asia-*:asia[0-9]*)
        echo "note: $bucket is in $place, of which $ZONE may be a part"
        ;;
      *)
        [ -n "${ANY_REGION:-}" ] || refuse "$bucket is in $place and the TPU in $ZONE: every image would be read \\
across regions, slowly, and paid for; nothing was made. Take a zone of $place or copy the bucket; \\
ANY_REGION=1 bash $0 does it all the same"
        ;;
    esac
  done
}
"""

STATE = """\
state() {  # of the TPU VM: READY, PREEMPTED, ...; NONE where there is none, UNKNOWN where gcloud does not answer
  local rows
  rows=$("${VM[@]}" list "${WHERE[@]}" --format='value(name.basename(),state)') || { echo UNKNOWN; return; }
  awk -v name="$NAME" '$1 == name { found = $2 } END { print found ? found : "NONE" }' <<< "$rows"
}

ask_for() {  # ask_for [FLAGS]: asks gcloud for the TPU; ends the script where asking again would not help
  if "${MAKE[@]}" create "$NAME" "$@" "${WHERE[@]}" "${WHAT[@]}" 2> "$NAME/error"; then
    cat "$NAME/error" >&2
    return
  fi
  explain "$NAME/error" || refuse "nothing was made, and nothing costs money"
  return 1
}

on() {  # on HOSTS COMMAND: runs it there
  "${VM[@]}" ssh "$NAME" "${CONNECT[@]}" --worker="$1" --command="$2"
}
"""

IMMEDIATE = """\
create() {
  rm -f "$NAME/seen"
  ask_for
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
  rm -f "$NAME/seen"
  ask_for --node-id="$NAME"
}

delete() {  # the request, and the TPU VM with it
  "${QUEUE[@]}" delete "$NAME" "${WHERE[@]}" --force --quiet
}

obtain() {  # waits for a TPU VM that is READY, for days if need be
  local now said=
  while [ "$(state)" != READY ]; do
    now=$(request)
    [ "$now" = "$said" ] || echo "$(date +%H:%M) the request: $now"
    said=$now
    case "$now" in
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
  "${VM[@]}" scp "/tmp/$NAME.tgz" "$NAME:clone.tgz" "${CONNECT[@]}" --worker="$HOSTS"
  on "$HOSTS" '
    set -e
    mkdir -p clone
    tar -xzf clone.tgz -C clone
    python3 -m pip install --quiet --user uv
    [ -d clone/.venv ] || python3 -m uv venv --quiet --python 3.12 clone/.venv
    python3 -m uv pip install --quiet --python clone/.venv/bin/python -r clone/requirements-tpu.txt'
}
"""

NO_DISK = """\
prepare() { :; }
"""

MOUNT = """\
prepare() {  # mounts the disk of --data_disk on every host
  on "$HOSTS" '
    set -e
    sudo mkdir -p /mnt/data
    mountpoint -q /mnt/data || sudo mount -o ro,noload /dev/disk/by-id/google-persistent-disk-1 /mnt/data'
}
"""

START = """\
start() {  # starts training apart from this connection, unless it runs
  on 0 "printf '%s\\n' $(printf %q "$TRAIN") > train.sh
echo ${DEADLINE:-0} > deadline
setsid nohup flock -n train.lock bash train.sh >> train.out 2>&1 < /dev/null &
[ ${DEADLINE:-0} = 0 ] || setsid nohup flock -n end.lock bash -c $(printf %q "$END") >> end.out 2>&1 < /dev/null &
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

WATCH = """\
set_deadline() {  # of the whole training, from the first time that there is a TPU; kept, so that this may run again
  [ "$MAX_SECONDS" -gt 0 ] || return 0
  [ -e "$NAME/deadline" ] || echo $(($(date +%s) + MAX_SECONDS)) > "$NAME/deadline"
  DEADLINE=$(cat "$NAME/deadline")
}

is_over() {  # is_over SECONDS: whether the deadline was so long ago
  [ "$MAX_SECONDS" -gt 0 ] && [ -e "$NAME/deadline" ] &&
    [ "$(date +%s)" -ge $(($(cat "$NAME/deadline") + $1)) ]
}

ask() {  # the state of training; what it has printed since the last time is shown, and added to the log
  local seen now
  seen=$(cat "$NAME/seen" 2> /dev/null || echo 0)
  on 0 "if flock -n train.lock true; then cat train.status 2> /dev/null || echo none; else echo running; fi
tail -c +$((seen + 1)) train.out 2> /dev/null || true" > "$NAME/answer" || { echo away; return; }
  now=$(head -n 1 "$NAME/answer")
  tail -n +2 "$NAME/answer" > "$NAME/new"
  cat "$NAME/new" >> "$NAME/train.log"
  cat "$NAME/new" >&2
  echo $((seen + $(wc -c < "$NAME/new"))) > "$NAME/seen"
  echo "${now:-away}"
}

watch() {  # waits for the end of training; fails where there is none to wait for
  local now
  while :; do
    case "$(state)" in READY | UNKNOWN) ;; *) return 1 ;; esac
    now=$(ask)
    case "$now" in
      running | away)
        if is_over GRACE; then finish "the hours of --max_hours are over, and the TPU does not end by itself" 42; fi
        sleep 30
        ;;
      none) return 1 ;;
      0) return 0 ;;
      over) finish "the hours of --max_hours are over: all is saved, and a launch with more of them goes on" 42 ;;
      *)
        echo "training ended with status $now; all it printed is in $NAME/train.log"
        echo "The TPU still costs money. Repair it, remove train.status there and run this again; or delete the TPU."
        exit 1
        ;;
    esac
  done
}

finish() {  # finish MESSAGE STATUS: ends the cost first
  delete || echo "NOT deleted: it still costs money. gcloud compute tpus tpu-vm list ${WHERE[*]}" >&2
  gcloud storage cp --recursive "$MODEL_DIR"/{run.json,labels.txt,log.jsonl,best} "$NAME/" ||
    echo "not all of $MODEL_DIR was there to copy" >&2
  [ "$2" != 0 ] || rm -f "$NAME/deadline"
  echo "$1"
  exit "$2"
}
""".replace("GRACE", str(GRACE_SECONDS))

MAIN = """\
mkdir -p "$NAME"
if is_over 0 && [ "$(state)" = NONE ]; then
  refuse "the hours of --max_hours are used up: raise it, and remove $NAME/deadline"
fi
if [ -n "${DRY_RUN:-}" ]; then
  create
  install
  prepare
  start
  finish "a dry run: nothing was made" 0
fi
check
until obtain && set_deadline && watch; do
  obtain
  set_deadline
  install
  prepare
  start
done
finish "finished: $NAME/ has the results, $NAME/train.log what was printed" 0
"""
