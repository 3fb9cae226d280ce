#!/bin/bash
# Runs the Python client: python_client_test.sh WITH_DAEMON TDPD
set -eu
PYTHONPATH=proto PYTHONDONTWRITEBYTECODE=1 exec "$1" "$2" \
  /usr/bin/python3 client/interop/python_client.py
