{{- define "trimtab.name" -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "trimtab.selector" -}}
app.kubernetes.io/name: trimtab
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "trimtab.labels" -}}
{{ include "trimtab.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Without the version: a new release of the chart alone restarts nothing. Arguments: root, component. */}}
{{- define "trimtab.podLabels" -}}
{{ include "trimtab.selector" (first .) }}
app.kubernetes.io/component: {{ index . 1 }}
{{- with (first .).Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "trimtab.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "trimtab.name" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end }}

{{- define "trimtab.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "trimtab.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{- /* Arguments: a list of the root and further maps of variables; later ones win. */}}
{{- define "trimtab.env" -}}
{{- $root := first . }}
- name: REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ required "redis.existingSecret: the name of a Secret with the URL of Redis" $root.Values.redis.existingSecret }}
      key: {{ $root.Values.redis.urlKey }}
{{- with $root.Values.redis.tlsSecret }}
- name: REDIS_TLS_CA
  valueFrom: { secretKeyRef: { name: {{ . }}, key: ca.crt, optional: true } }
- name: REDIS_TLS_CERT
  valueFrom: { secretKeyRef: { name: {{ . }}, key: tls.crt, optional: true } }
- name: REDIS_TLS_KEY
  valueFrom: { secretKeyRef: { name: {{ . }}, key: tls.key, optional: true } }
{{- end }}
{{- $env := dict }}
{{- range $map := concat (list $root.Values.env) (rest .) }}
{{- $env = merge (deepCopy ($map | default dict)) $env }}
{{- end }}
{{- range $name, $value := $env }}
- name: {{ $name }}
  {{- /* Numbers of a file are floats, which `quote` writes as 1e+06 from a million. */}}
  value: {{ if and (kindIs "float64" $value) (eq $value (floor $value)) }}{{ printf "%.0f" $value | quote }}{{ else }}{{ $value | quote }}{{ end }}
{{- end }}
{{- end }}

{{- /* Argument: names of Secrets. */}}
{{- define "trimtab.envFrom" -}}
{{- with . }}
envFrom:
{{- range . }}
  - secretRef: { name: {{ . }} }
{{- end }}
{{- end }}
{{- end }}

{{- define "trimtab.image" -}}
{{- $image := index . 1 -}}
{{ $image.repository }}:{{ $image.tag | default (first .).Chart.AppVersion }}
{{- end }}

{{- /* Arguments: root, component, settings of the pods. */}}
{{- define "trimtab.podSpec" -}}
{{- $root := first . }}{{ $component := index . 1 }}{{ $settings := index . 2 -}}
serviceAccountName: {{ include "trimtab.serviceAccount" $root }}
automountServiceAccountToken: false
securityContext: {{ include "trimtab.podSecurity" $root | nindent 2 }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- with $settings.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $settings.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $settings.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector: { matchLabels: {{ set (include "trimtab.selector" $root | fromYaml) "app.kubernetes.io/component" $component | toJson }} }
{{- end }}

{{- define "trimtab.workerProbes" -}}
startupProbe:
  httpGet: { path: /healthz, port: health }
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 24
# Answers 503 with the reason while models load (minutes for large ones), Redis does not answer, or the remote base of each model is away: a
# restart would help none of them.
readinessProbe:
  httpGet: { path: /readyz, port: health }
  periodSeconds: 5
  timeoutSeconds: 5
# Answered by the main thread, which also renews the leases. An outage of Redis is no reason for a restart.
livenessProbe:
  httpGet: { path: /healthz, port: health }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end }}

{{- /* Argument: `hub` of a pool. */}}
{{- define "trimtab.hubEnv" -}}
- { name: HF_HUB_CACHE, value: /models }
{{- with .endpoint }}
- { name: HF_ENDPOINT, value: {{ . }} }
{{- end }}
{{- with .tokenSecret }}
- name: HF_TOKEN
  valueFrom: { secretKeyRef: { name: {{ . }}, key: HF_TOKEN } }
{{- end }}
{{- end }}
