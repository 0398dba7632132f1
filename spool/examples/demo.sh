#!/usr/bin/env bash
# The main job once, on the model that ships: starts the daemon on a spool of its own, drops pictures of a subject that the
# model has never seen and a manifest with several scenes, shows the progress, and says where the set and its contact sheet are.
#
#   spool/examples/demo.sh FOLDER_OF_THE_PROGRAMS [FOLDER_FOR_THE_DEMO]
set -euo pipefail

programs=$(realpath "${1:?usage: demo.sh FOLDER_OF_THE_PROGRAMS [FOLDER_FOR_THE_DEMO]}")
here=$(dirname "$(realpath "$0")")
place=$(realpath -m "${2:-.build/demo}")
model=$(realpath "$here/../../Tools/demo-model/model")

# Only what an earlier demo has made is removed: its mark says so. A folder of yours is left alone.
mark=$place/.dreamcache-demo
if [ -e "$place" ] && [ ! -e "$mark" ] && [ -n "$(ls -A "$place")" ]; then
    echo "demo.sh: found files in $place, expected a new or empty folder, or one of an earlier demo" >&2
    exit 1
fi
mkdir -p "$place"
touch "$mark"
rm -rf "${place:?}/spool"
mkdir "$place/spool"
cat > "$place/dreamcached.yaml" <<YAML
spool:
  path: $place/spool
  settle_seconds: 2
  status_seconds: 0.2
models:
  demo:
    checkpoint: $model
    adapter: $model/adapter.safetensors
YAML
configuration=$place/dreamcached.yaml

"$programs/dreamcached" --config "$configuration" 2> "$place/daemon.log" &
daemon=$!
trap 'kill $daemon 2> /dev/null; wait $daemon || true' EXIT
until "$programs/dreamcache" status --config "$configuration" > /dev/null 2>&1; do
    kill -0 $daemon 2> /dev/null || { cat "$place/daemon.log"; exit 1; }
    sleep 0.1
done

echo "Dropping the pictures of a subject, and a manifest with its scenes:"
echo "  cp -r $here/toy $place/spool/drop/references/"
echo "  cp $here/scenes.json $place/spool/drop/jobs/"
cp -r "$here/toy" "$place/spool/drop/references/"
cp "$here/scenes.json" "$place/spool/drop/jobs/"
set_folder=$("$programs/dreamcache" wait scenes.json --timeout 600 --config "$configuration")

echo
echo "The set:           $set_folder"
echo "The contact sheet: $set_folder/grid.png"
echo "The cache:         $place/spool/cache/toy.dcache"
