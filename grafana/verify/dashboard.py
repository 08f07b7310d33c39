"""The queries of the dashboard as Grafana sends them: with its variables filled in, to a real Prometheus.

Why: a query that parses may still return no data. Only a real Prometheus shows that a query is right.
"""

import json
import math
import re
import urllib.error
import urllib.parse
import urllib.request


class Prometheus:
    """The HTTP API of one Prometheus."""

    def __init__(self, address):
        self.address = address

    def get(self, path, **parameters):
        pairs = [(name, value) for name, value in parameters.items()]
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(pairs)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as refused:
            raise ValueError(f"{refused.code} {refused.read().decode()}: {parameters}") from None

    def range(self, query, start, end, step):
        """Series as (labels, [(time, value)])."""
        result = self.get("query_range", query=query, start=start, end=end, step=step)["result"]
        return [(one["metric"], [(at, float(value)) for at, value in one["values"]]) for one in result]

    def instant(self, query, at):
        result = self.get("query", query=query, time=at)["result"]
        return [(one["metric"], [(one["value"][0], float(one["value"][1]))]) for one in result]


class Dashboard:
    """lb.json, and the substitutions that Grafana makes in it."""

    def __init__(self, path, scrape_seconds):
        with open(path, encoding="utf-8") as file:
            self.model = json.load(file)
        self.scrape_seconds = scrape_seconds

    def panels(self):
        """All panels without the rows themselves, but with the panels in collapsed rows."""
        for panel in self.model["panels"]:
            if panel["type"] != "row":
                yield panel
            yield from panel.get("panels", [])

    def variables(self):
        return [one for one in self.model["templating"]["list"] if one["type"] == "query"]

    def annotations(self):
        return [one for one in self.model["annotations"]["list"] if not one.get("builtIn")]

    def fill(self, query, chosen, start, end, step):
        """`chosen` maps a variable to a list of values. A variable that is missing there has the value All."""
        interval = max(step, self.scrape_seconds)
        known = {
            "__rate_interval": f"{max(interval + self.scrape_seconds, 4 * self.scrape_seconds):g}s",
            "__interval": f"{interval:g}s",
            "__from": str(round(start * 1000)),
            "__to": str(round(end * 1000)),
        }
        for variable in self.variables():
            values = chosen.get(variable["name"])
            known[variable["name"]] = as_matcher(values) if values else variable["allValue"]

        def value(match):
            if match[1] not in known:
                raise ValueError(f"no variable ${match[1]} in {query}")
            return known[match[1]]

        return re.sub(r"\$\{?(\w+)\}?", value, query)

    def values_of(self, variable, prometheus, chosen, start, end):
        """The values that a variable of the form label_values(selector, label) offers."""
        form = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
        if not form:
            raise ValueError(f"{variable['name']}: not of the form label_values(selector, label)")
        selector = self.fill(form[1], chosen, start, end, 1)
        return prometheus.get(f"label/{form[2]}/values", **{"match[]": selector, "start": start, "end": end})


def as_matcher(values):
    """Selected values, as Grafana writes them for =~ inside a quoted string."""
    escaped = [re.sub(r"([\\^$.*+?()\[\]{}|/])", r"\\\\\1", value) for value in values]
    return escaped[0] if len(escaped) == 1 else "(" + "|".join(escaped) + ")"


def limits(panel, target):
    """The limits of the values of a target: the axis of the panel, or its override for this target."""
    defaults = panel["fieldConfig"]["defaults"]
    found = {key: defaults.get(key) for key in ("min", "max", "unit")}
    legend = target.get("legendFormat", "")
    for override in panel["fieldConfig"]["overrides"]:
        matcher = override["matcher"]
        meant = {"byFrameRefID": matcher["options"] == target["refId"], "byName": matcher["options"] == legend}
        if meant.get(matcher["id"]):
            found.update({one["id"]: one["value"] for one in override["properties"] if one["id"] in found})
            if "unit" in [one["id"] for one in override["properties"]]:
                found["max"] = None
    least = found["min"] if found["min"] is not None else 0
    greatest = found["max"] if found["max"] is not None else math.inf
    if found["unit"] == "percentunit" and panel["type"] != "table":
        greatest = min(greatest, 1)
    return least, greatest
