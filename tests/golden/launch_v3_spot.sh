#!/usr/bin/env bash
# Trains efficientnet-b0 on a TPU v3-8: 1 host, spot.
# Printed by `main.py launch --print`. Run it in a clone of this project, logged in by `gcloud auth login`; interrupted,
# run it again: it goes on with what is there. With --dry-run it prints its gcloud commands and runs none. The TPU costs
# money from `create` to `delete`, in the last line.
# No TPU has run it yet: docs/tpu.md says what is verified.
# By `plan`, for 1,751,595 steps: 17.4 (10.1 to 29.9) hours of steps, 69 (40 to 120) chip-hours, 153 (89 to 263) US$ at
# 2.2 each, the list price of 2026-12-01 on demand in europe-west4.
set -euo pipefail

NAME=b0
ZONE=europe-west4-a
TYPE=v3-8
WHERE=(--zone=europe-west4-a --project=photos)
CONNECT=(--zone=europe-west4-a --project=photos)
WHAT=(--accelerator-type=v3-8 --version=tpu-ubuntu2204-base --spot)
HOSTS=0
MODEL_DIR=gs://photos/runs/b0
BUCKETS=(gs://photos)
MAX_SECONDS=0
VM=(gcloud compute tpus tpu-vm)
QUEUE=(gcloud compute tpus queued-resources)
MAKE=(gcloud compute tpus tpu-vm)

# What runs on the TPU VM. Status 42: stopped from outside, with everything saved; the same command goes on.
TRAIN='cd ~/clone
rm -f ~/train.status
status=42
while [ $status = 42 ]; do
  .venv/bin/python main.py --tpu=local --model_dir=gs://photos/runs/b0 --seed=7 --data_dir=gs://photos/imagenet
  status=$?
  sleep 5
done
echo $status > ~/train.status'
# With --max_hours the TPU VM ends itself, should nobody else do it: its service account must be allowed to.
END='while at=$(cat deadline) && [ $(date +%s) -lt $((at + 1800)) ]; do sleep 60; done; [ -z $at ] || gcloud compute tpus tpu-vm delete b0 --zone=europe-west4-a --project=photos --quiet'

if [ "${1:-}" = --dry-run ]; then  # prints the commands, quoted as they would be run, and runs none
  DRY_RUN=1
  gcloud() { printf 'gcloud'; printf ' %q' "$@"; printf '\n'; }
  tar() { :; }
  rm() { :; }
fi

explain() {  # explain FILE: shows an error of gcloud and its cause; fails where trying again does not help
  cat "$1" >&2
  if grep -qE 'Quota (limit )?'"'"'?[A-Za-z0-9_-]+'"'"'? (has been )?exceeded|QUOTA_EXCEEDED|quota metrics? exceed|Quota exceeded for quota (metric|group)' "$1"; then
    echo 'the quota is used up: the project may not have so many chips of this kind in the region; spot chips have a quota of their own.' >&2
    echo '  try: raise it: console.cloud.google.com/iam-admin/quotas, service Cloud TPU API; or add or leave out --spot' >&2
    return 1
  fi
  if grep -qE 'There is no more capacity in the zone|Insufficient (reserved )?capacity|ZONE_RESOURCE_POOL_EXHAUSTED|does not have enough resources available' "$1"; then
    echo 'no TPU is free in the zone: Google has none to give there now; a quota is no promise of one.' >&2
    echo '  try: wait, which a queued resource does by itself; or another zone: gcloud compute tpus locations list' >&2
    return 0
  fi
  if grep -qE 'API has not been used in project .* before or it is disabled|SERVICE_DISABLED|API \[?[a-z.]+\]? not enabled' "$1"; then
    echo 'the API is not enabled: the project has never used Cloud TPUs.' >&2
    echo '  try: gcloud services enable tpu.googleapis.com --project=PROJECT' >&2
    return 1
  fi
  if grep -qE 'acceleratorTypes/[a-z0-9-]+'"'"'? was not found|accelerator ?[tT]ype .* (is not (available|supported)|not found)|Invalid (value for field )?.?acceleratorType|[Ll]ocation [a-z0-9-]+ is not found|Permission denied on '"'"'locations/' "$1"; then
    echo 'the zone has no such TPU: this type is not offered in the zone, or the zone'"'"'s name is mistyped.' >&2
    echo '  try: gcloud compute tpus accelerator-types list --zone=ZONE; gcloud compute tpus locations list' >&2
    return 1
  fi
  if grep -qE 'PERMISSION_DENIED|[Rr]ead access to project .* was denied|Permission '"'"'tpu\.[a-z.A-Z]+'"'"' denied|not found or permission denied|linked to a free-trial billing account|billing (account|must be|is not) ' "$1"; then
    echo 'no right to the project: your account may not make TPUs in the project, the project is another one, or it has no billing.' >&2
    echo '  try: gcloud config list; gcloud projects get-iam-policy PROJECT; roles/tpu.admin is what it takes' >&2
    return 1
  fi
  if grep -qE 'You do not currently have an active account selected|Reauthentication (failed|required)|There was a problem refreshing your current auth tokens|gcloud auth login' "$1"; then
    echo 'gcloud is not logged in: gcloud has no account, or its login is over.' >&2
    echo '  try: gcloud auth login' >&2
    return 1
  fi
}

refuse() {
  echo "$1" >&2
  exit 2
}

check() {  # what would fail only after minutes, or cost what nobody expects
  local region=${ZONE%-*} bucket place
  gcloud compute tpus accelerator-types describe "$TYPE" "${WHERE[@]}" > /dev/null 2> "$NAME/error" || {
    explain "$NAME/error" || true
    refuse "$TYPE: gcloud finds no such TPU type in $ZONE; nothing was made. What there is: \
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
        [ -n "${ANY_REGION:-}" ] || refuse "$bucket is in $place and the TPU in $ZONE: every image would be read \
across regions, slowly, and paid for; nothing was made. Take a zone of $place or copy the bucket; \
ANY_REGION=1 bash $0 does it all the same"
        ;;
    esac
  done
}

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

prepare() { :; }

start() {  # starts training apart from this connection, unless it runs
  on 0 "printf '%s\n' $(printf %q "$TRAIN") > train.sh
echo ${DEADLINE:-0} > deadline
setsid nohup flock -n train.lock bash train.sh >> train.out 2>&1 < /dev/null &
[ ${DEADLINE:-0} = 0 ] || setsid nohup flock -n end.lock bash -c $(printf %q "$END") >> end.out 2>&1 < /dev/null &
sleep 2"
}

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
        if is_over 900; then finish "the hours of --max_hours are over, and the TPU does not end by itself" 42; fi
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
