{{- define "visor-training.fullname" -}}
{{- .Values.fullnameOverride | default .Release.Name -}}
{{- end -}}

{{- define "visor-training.mlflowName" -}}
{{- include "visor-training.fullname" . }}-mlflow
{{- end -}}

{{/* Labels that never change, also those of the pods. */}}
{{- define "visor-training.selectorLabels" -}}
app.kubernetes.io/name: {{ .Values.nameOverride | default .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "visor-training.labels" -}}
{{ include "visor-training.selectorLabels" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- with .Values.extraLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* (root, component): a pod's labels. */}}
{{- define "visor-training.podLabels" -}}
{{- $root := index . 0 -}}
{{ include "visor-training.selectorLabels" $root }}
app.kubernetes.io/component: {{ index . 1 }}
{{- with $root.Values.podLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "visor-training.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "visor-training.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- define "visor-training.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest }}{{ $image.repository }}@{{ $image.digest }}{{ else }}{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}{{ end -}}
{{- end -}}

{{- define "visor-training.homeClaim" -}}
{{- .Values.home.existingClaim | default (printf "%s-home" (include "visor-training.fullname" .)) -}}
{{- end -}}

{{- define "visor-training.mlflowClaim" -}}
{{- .Values.mlflow.server.persistence.existingClaim | default (include "visor-training.mlflowName" .) -}}
{{- end -}}

{{/* Whether the bundled MLflow server keeps anything itself. */}}
{{- define "visor-training.mlflowVolume" -}}
{{- if not (and .Values.mlflow.server.backend.secretName .Values.mlflow.server.artifacts.uri) }}true{{ end -}}
{{- end -}}

{{- define "visor-training.trackingUri" -}}
{{- if .Values.mlflow.server.enabled -}}
http://{{ include "visor-training.mlflowName" . }}:{{ int64 .Values.mlflow.server.port }}
{{- else -}}
{{- .Values.mlflow.trackingUri -}}
{{- end -}}
{{- end -}}

{{/* The classifier's name in the config, where the chart can see it. */}}
{{- define "visor-training.modelName" -}}
{{- get (.Values.config.text | default "" | fromYaml) "name" | default "MODEL" -}}
{{- end -}}

{{/* The config's own data.source, where the chart can see it. */}}
{{- define "visor-training.configSource" -}}
{{- $data := get (.Values.config.text | default "" | fromYaml) "data" -}}
{{- if kindIs "map" $data }}{{ get $data "source" }}{{ end -}}
{{- end -}}

{{/* A quantity of Kubernetes as a number: 500m is 0.5, 1Ki is 1024. */}}
{{- define "visor-training.number" -}}
{{- $quantity := toString . -}}
{{- $unit := regexFind "[A-Za-z]+$" $quantity -}}
{{- $factors := dict "" 1 "m" 0.001 "k" 1e3 "K" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 "Ei" 1152921504606846976 -}}
{{- mulf (trimSuffix $unit $quantity | float64) (index $factors $unit) -}}
{{- end -}}

{{/* What boto3 reads. */}}
{{- define "visor-training.s3Env" -}}
{{- with .Values.s3.endpoint }}
- name: AWS_ENDPOINT_URL
  value: {{ . | quote }}
{{- end }}
{{- with .Values.s3.region }}
- name: AWS_DEFAULT_REGION
  value: {{ . | quote }}
{{- end }}
{{- with .Values.s3.secretName }}
{{- range list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ . }}
  valueFrom:
    secretKeyRef: {name: {{ $.Values.s3.secretName }}, key: {{ . }}}
{{- end }}
- name: AWS_SESSION_TOKEN
  valueFrom:
    secretKeyRef: {name: {{ . }}, key: AWS_SESSION_TOKEN, optional: true}
{{- end }}
{{- end -}}

{{/* Only /tmp and the volumes can be written to; these look elsewhere for a place of their own. */}}
{{- define "visor-training.writableEnv" -}}
- name: HOME
  value: /tmp
- name: MPLCONFIGDIR
  value: /tmp/matplotlib
{{- end -}}
