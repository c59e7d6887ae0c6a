#!/usr/bin/env bash
# All figures of RESULTS.md from "Approaches" on that compare ways to train, up to the choice of a
# recipe: hours on two cores. A run that was stopped goes on when the same command is given again.
#
#   benchmarks/compare.sh DATASET.csv LISTS.csv
set -euo pipefail

dataset=$1
lists=$2
here=$(dirname "$0")

tagger compare --data "$dataset"
tagger compare --data "$dataset" --few-labels \
  --approach linear --approach frozen --approach minilm --approach setfit
tagger compare --data "$dataset" --data "$here/../data/gold.csv" --seeds 1 \
  --approach rules --approach linear --approach frozen --approach minilm
python "$here/disputed.py" --data "$dataset"
python "$here/guarantee.py" --data "$dataset"
python "$here/shift.py" --data "$dataset"
python "$here/recipes.py" --data "$dataset" --judge "$lists"
