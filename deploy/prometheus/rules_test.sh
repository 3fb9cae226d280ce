#!/bin/bash
# The alert rules as promtool sees them: well formed, and each alert fires when
# alerts_test.yaml says that it does.
set -euo pipefail
cd deploy/prometheus
promtool check rules alerts.yaml
promtool test rules alerts_test.yaml

# Each alert is in a test: by name, so that none is forgotten.
status=0
while read -r alert; do
  grep -q "\b$alert\b" alerts_test.yaml || {
    echo "$alert is in no test of alerts_test.yaml"
    status=1
  }
done < <(sed -nE 's/^ *- alert: (.*)/\1/p' alerts.yaml)
exit "$status"
