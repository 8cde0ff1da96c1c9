{{- define "armillary.fullname" -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "armillary.selector" -}}
app.kubernetes.io/name: armillary
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "armillary.labels" -}}
{{ include "armillary.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "armillary.image" -}}
{{- $image := index .root.Values.images .name -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "armillary.users" -}}
{{ .Values.users.namespace.name | default (printf "%s-users" (include "armillary.fullname" .)) }}
{{- end }}

{{- define "armillary.secret" -}}
{{ .Values.secrets.existingSecret | default (include "armillary.fullname" .) }}
{{- end }}

{{- define "armillary.metricsSecret" -}}
{{ .Values.monitoring.existingSecret | default (printf "%s-metrics" (include "armillary.fullname" .)) }}
{{- end }}

{{- define "armillary.databaseSecret" -}}
{{ if .Values.database.bundled.enabled }}{{ include "armillary.secret" . }}{{ else }}{{ .Values.database.existingSecret }}{{ end }}
{{- end }}

{{/* Path of publicUrl, with a slash at both ends. */}}
{{- define "armillary.path" -}}
{{ printf "/%s/" ((urlParse .Values.publicUrl).path | trimAll "/") | replace "//" "/" }}
{{- end }}

{{- define "armillary.host" -}}
{{ regexReplaceAll ":[0-9]+$" (urlParse .Values.publicUrl).host "" }}
{{- end }}

{{- define "armillary.priority" -}}
{{- if .part.priorityClassName -}}
priorityClassName: {{ .part.priorityClassName }}
{{- else if .root.Values.priority.enabled -}}
priorityClassName: {{ include "armillary.fullname" .root }}-core
{{- end -}}
{{- end }}

{{/* What a pod of the core parts has in common: no rights, nothing it could write to but what is mounted. */}}
{{- define "armillary.pod" -}}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{ include "armillary.priority" . }}
{{- with .part.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .part.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .part.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .uid | default .root.Values.uid }}
  runAsGroup: {{ .uid | default .root.Values.uid }}
  fsGroup: {{ .uid | default .root.Values.uid }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{- define "armillary.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{- define "armillary.resources" -}}
{{- $found := dict -}}
{{- range $kind := list "requests" "limits" -}}
{{- $some := dict -}}
{{- range $name, $value := index $.resources $kind -}}{{- if $value -}}{{- $_ := set $some $name $value -}}{{- end -}}{{- end -}}
{{- if $some -}}{{- $_ := set $found $kind $some -}}{{- end -}}
{{- end -}}
{{- if $found -}}
resources:
  {{- toYaml $found | nindent 2 }}
{{- end -}}
{{- end }}

{{/* The rule of a NetworkPolicy's egress that lets names be asked for. */}}
{{- define "armillary.dns" -}}
- to:
    {{- toYaml .Values.networkPolicies.dns.to | nindent 4 }}
  ports:
    {{- range .Values.networkPolicies.dns.ports }}
    - {protocol: UDP, port: {{ . }}}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}

{{/* Configuration and secrets as hub, service and controller read them. */}}
{{- define "armillary.mounts" -}}
- name: state
  mountPath: /var/lib/armillary
- name: tmp
  mountPath: /tmp
- name: config
  mountPath: /etc/armillary
  readOnly: true
- name: secrets
  mountPath: /var/lib/armillary/secrets
  readOnly: true
- name: databases
  mountPath: /run/armillary/databases
  readOnly: true
- name: metrics
  mountPath: /run/armillary/metrics
  readOnly: true
{{- if or .Values.login.clientSecret .Values.login.existingSecret }}
- name: login
  mountPath: /run/armillary/login
  readOnly: true
{{- end }}
{{- if .Values.mail.existingSecret }}
- name: mail
  mountPath: /run/armillary/mail
  readOnly: true
{{- end }}
{{- end }}

{{/* With `early`: before the release is there or up to date, so what it makes itself may be missing. */}}
{{- define "armillary.volumes" -}}
{{- $root := .root }}
- name: state
  emptyDir: {}
- name: tmp
  emptyDir: {}
- name: config
  configMap:
    name: {{ include "armillary.fullname" $root }}
- name: secrets
  secret:
    secretName: {{ include "armillary.secret" $root }}
    defaultMode: 0440
    items:
      {{- range list "cookie_secret" "auth_state_keys" "proxy_password" "service_token" }}
      - {key: {{ . }}, path: {{ . }}}
      {{- end }}
- name: databases
  secret:
    secretName: {{ include "armillary.databaseSecret" $root }}
    defaultMode: 0440
    items:
      - {key: armillary-url, path: armillary-url}
      - {key: jupyterhub-url, path: jupyterhub-url}
- name: metrics
  secret:
    secretName: {{ include "armillary.metricsSecret" $root }}
    defaultMode: 0440
    {{- if $.early }}
    optional: true
    {{- end }}
    items:
      - {key: {{ $root.Values.monitoring.key }}, path: token}
{{- if $root.Values.login.existingSecret }}
- name: login
  secret:
    secretName: {{ $root.Values.login.existingSecret }}
    defaultMode: 0440
    {{- if $.early }}
    optional: true
    {{- end }}
    items:
      - {key: {{ $root.Values.login.key }}, path: client-secret}
{{- else if $root.Values.login.clientSecret }}
- name: login
  secret:
    secretName: {{ include "armillary.fullname" $root }}-login
    defaultMode: 0440
    {{- if $.early }}
    optional: true
    {{- end }}
{{- end }}
{{- if $root.Values.mail.existingSecret }}
- name: mail
  secret:
    secretName: {{ $root.Values.mail.existingSecret }}
    defaultMode: 0440
    {{- if $.early }}
    optional: true
    {{- end }}
    items:
      - {key: {{ $root.Values.mail.key }}, path: password}
{{- end }}
{{- end }}

{{- define "armillary.env" -}}
- name: ARMILLARY_SETTINGS
  value: /etc/armillary/armillary.yaml
- name: HOME
  value: /tmp
{{- end }}

{{/* What must not fit together is refused here, where helm's schema cannot tell. */}}
{{- define "armillary.check" -}}
{{- if and (not .Values.database.bundled.enabled) (not .Values.database.existingSecret) -}}
{{- fail "database: name database.existingSecret (keys armillary-url and jupyterhub-url), or enable database.bundled" -}}
{{- end -}}
{{- if and .Values.database.bundled.enabled .Values.database.existingSecret -}}
{{- fail "database: there is one database: remove database.existingSecret, or set database.bundled.enabled to false" -}}
{{- end -}}
{{- if and .Values.login.clientSecret .Values.login.existingSecret -}}
{{- fail "login: there is one secret: remove login.clientSecret or login.existingSecret" -}}
{{- end -}}
{{- if not (or .Values.login.clientSecret .Values.login.existingSecret) -}}
{{- fail "login: the hub has a secret at the OpenID provider: name the Secret that holds it in login.existingSecret" -}}
{{- end -}}
{{- if not (dig "login" "issuer" "" .Values.settings) -}}
{{- fail "settings.login.issuer: name your OpenID Connect provider" -}}
{{- end -}}
{{- if and .Values.wildcard (not (regexMatch "\\.[a-zA-Z][a-zA-Z0-9-]*\\.?$" (include "armillary.host" .))) -}}
{{- fail "wildcard: names of hosts are made below that of publicUrl, which must be one with a dot in it and no address" -}}
{{- end -}}
{{- if and .Values.gateway.enabled (not .Values.gateway.parentRefs) -}}
{{- fail "gateway: name the Gateways in gateway.parentRefs" -}}
{{- end -}}
{{- if gt (int .Values.service.autoscaling.minReplicas) (int .Values.service.autoscaling.maxReplicas) -}}
{{- fail "service.autoscaling: minReplicas is above maxReplicas" -}}
{{- end -}}
{{- if eq (include "armillary.users" .) .Release.Namespace -}}
{{- fail "users.namespace: sessions have a namespace of their own, not that of the release" -}}
{{- end -}}
{{- end }}
