{{- define "armillary.disruption" -}}
{{- if .part.disruption.enabled }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "armillary.fullname" .root }}-{{ .component }}
  labels:
    {{- include "armillary.labels" . | nindent 4 }}
spec:
  minAvailable: {{ .part.disruption.minAvailable }}
  selector:
    matchLabels:
      {{- include "armillary.selector" . | nindent 6 }}
{{- end }}
{{- end }}
