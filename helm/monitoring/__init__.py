"""What operators look at: dashboards for Grafana and alerts for Prometheus, as data.

It lies beside the chart and not in a folder of its own at the root, because the chart is what carries it: `helm.write`
makes the chart's files from it. Every query says `INSTALLATION` where it chooses one installation among several.
"""
