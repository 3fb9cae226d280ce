#!/bin/bash
# Runs a Python file with the generated modules and tdpd.py on its path:
#
#   python_test.sh FILE ARGUMENT...
set -eu
PYTHONPATH=proto:client/python PYTHONDONTWRITEBYTECODE=1 \
  exec /usr/bin/python3 "$@"
