# shellcheck shell=bash
# Sourced: sets npm_modules to the folder where deploy/dev.sh keeps npm's
# packages, or ends the test.

home=${HOME:-$(getent passwd "$(id -u)" | cut -d: -f6)}
npm_modules=${TDPD_NPM:-$home/.cache/tdpd/npm}/node_modules
if [[ ! -d $npm_modules ]]; then
  echo "no npm packages in $npm_modules: run ./deploy/dev.sh setup"
  exit 1
fi
