#!/usr/bin/python3
"""The dashboard is well formed, and it, the alert rules and the page on placement
name only metrics that the daemon has: those of the tables in observability.md,
which a test compares with a scrape.

    metric_names_test.py ALERTS DASHBOARD PLACEMENT [OBSERVABILITY]
"""

import json
import re
import subprocess
import sys
import tempfile
import unittest

NAME = r"\b(?<![:$])((?:tdpd|process)_[a-z0-9_]+)\b(?!:)"
SERIES_OF_HISTOGRAMS = ("_bucket", "_sum", "_count")


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def metrics_in(expression):
    """Names of metrics, without labels, strings, and recorded series."""
    bare = re.sub(r"\{[^}]*\}", "", expression)
    return set(re.findall(NAME, bare))


def expressions_of_rules(text):
    """The values of `expr:`, on one line or as a block below it."""
    lines = iter(text.splitlines())
    for line in lines:
        match = re.match(r"( *)(?:- )?expr: (.*)", line)
        if not match:
            continue
        if match.group(2) != "|":
            yield match.group(2)
            continue
        for inner in lines:
            if re.match(r" *(- )?(alert|record|for|labels|name):?", inner):
                break
            yield inner


def queries_of_variables(dashboard):
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]


class MetricNamesTest(unittest.TestCase):

    def setUp(self):
        self.rules = read(ALERTS)
        self.placement = re.findall(r"```promql\n(.*?)```", read(PLACEMENT),
                                    re.DOTALL)
        self.dashboard = json.loads(read(DASHBOARD))
        self.panels = [panel for panel in self.dashboard["panels"]
                       if panel["type"] != "row"]

    def expressions(self):
        yield from expressions_of_rules(self.rules)
        yield from queries_of_variables(self.dashboard)
        for panel in self.panels:
            for target in panel["targets"]:
                yield target["expr"]
        yield from self.placement

    def test_panels_have_titles_queries_and_places_of_their_own(self):
        places = set()
        self.assertGreater(len(self.panels), 10)
        for panel in self.dashboard["panels"]:
            self.assertTrue(panel["title"])
            place = panel["gridPos"]
            self.assertLessEqual(place["x"] + place["w"], 24, panel["title"])
            for x in range(place["x"], place["x"] + place["w"]):
                for y in range(place["y"], place["y"] + place["h"]):
                    self.assertNotIn((x, y), places, panel["title"])
                    places.add((x, y))
        ids = [panel["id"] for panel in self.dashboard["panels"]]
        self.assertEqual(len(ids), len(set(ids)))
        for panel in self.panels:
            self.assertTrue(panel["targets"], panel["title"])

    def test_the_queries_of_the_page_on_placement_are_queries(self):
        self.assertGreater(len(self.placement), 5)
        rules = {"groups": [{"name": "placement", "rules": [
            {"record": f"query:{i}", "expr": query}
            for i, query in enumerate(self.placement)]}]}
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            json.dump(rules, file)  # which is YAML, too
            file.flush()
            checked = subprocess.run(["promtool", "check", "rules", file.name],
                                     capture_output=True, text=True,
                                     check=False)
        self.assertEqual(checked.returncode, 0,
                         checked.stdout + checked.stderr)

    def test_recorded_series_that_are_shown_are_recorded(self):
        recorded = set(re.findall(r"- record: (\S+)", self.rules))
        used = set()
        for expression in self.expressions():
            used |= set(re.findall(r"\binstance\w*:\w+:\w+", expression))
        self.assertLessEqual(used, recorded)
        self.assertTrue(used)

    def test_every_metric_is_documented(self):
        if DOCUMENT is None:
            self.skipTest("no document was given")
        documented = set(re.findall(r"^\| `(\w+)` \|", read(DOCUMENT),
                                    re.MULTILINE))
        self.assertGreater(len(documented), 10)
        for expression in self.expressions():
            for name in metrics_in(expression):
                for suffix in SERIES_OF_HISTOGRAMS:
                    if name.endswith(suffix) and name not in documented:
                        name = name.removesuffix(suffix)
                self.assertIn(name, documented, expression)


if __name__ == "__main__":
    DOCUMENT = sys.argv.pop(4) if len(sys.argv) > 4 else None
    PLACEMENT = sys.argv.pop(3)
    DASHBOARD = sys.argv.pop(2)
    ALERTS = sys.argv.pop(1)
    unittest.main()
