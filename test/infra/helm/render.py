"""Renders a chart with Helm's own library, and checks the objects against the schemas of Kubernetes. Used by chart.ts.

Arguments: folder of the chart, files with values. Prints a JSON object: the rendered text by file of values, and the problems.
"""
import json
import os
import re
import sys

import helm_python
import kubernetes_validate
import yaml

VERSIONS = ["1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37"]
# Values that need a newer Kubernetes than the chart.
FIRST_VERSION = {"image-volume.yaml": "1.33"}
CUSTOM = ("keda.sh/", "monitoring.coreos.com/", "gateway.networking.k8s.io/")

folder, *files = sys.argv[1:]
rendered, problems = {}, []
for finding in helm_python.lint(folder)["messages"]:
    if finding["severity"] not in ("INFO", "info", 1):
        problems.append(f"lint: {finding}")
for file in files:
    with open(file, encoding="utf8") as stream:
        values = yaml.safe_load(stream)
    with helm_python.Chart.load(folder) as chart:
        try:
            texts = chart.render(values, name="trimtab", namespace="trimtab")
        except helm_python.HelmError as error:
            problems.append(f"{file}: {error}")
            continue
    texts = {name: text for name, text in sorted(texts.items()) if not name.endswith("NOTES.txt")}
    rendered[file] = "\n---\n".join(texts.values())
    for name, text in texts.items():
        problems += [f"{file}: {name}: {number}: an exponent" for number in re.findall(r'"[\d.]+e\+\d+"', text)]
        for document in filter(None, yaml.safe_load_all(text)):
            if document["apiVersion"].startswith(CUSTOM):
                continue
            first = FIRST_VERSION.get(os.path.basename(file), VERSIONS[0])
            for version in VERSIONS[VERSIONS.index(first) :]:
                try:
                    kubernetes_validate.validate(document, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    problems.append(f"{file}: {name} {document['kind']} in {version}: {str(error).splitlines()[0]}")
json.dump({"rendered": rendered, "problems": problems}, sys.stdout)
