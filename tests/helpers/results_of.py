"""Statuses in the result files of a sweep."""

import json


def statuses(folder):
    return {
        path.parent.name: json.loads(path.read_text())["status"]
        for path in folder.glob("*/result.json")
    }
