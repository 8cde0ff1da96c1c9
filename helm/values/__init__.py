"""The chart's values as a model: what `values.yaml` and `values.schema.json` are written from (`python -m helm.write`).

Names are helm's (camelCase). What hub, service and controller understand is not repeated here: it stands below
`settings`, in the words of armillary.yaml, and is checked by the settings' own model.
"""

from helm.values.chart import Values
from helm.values.json_schema import FIXED, fixed, schema

__all__ = ["FIXED", "Values", "fixed", "schema"]
