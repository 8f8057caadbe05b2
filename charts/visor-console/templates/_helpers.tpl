{{- define "visor-console.fullname" -}}
{{- .Values.fullnameOverride | default .Release.Name -}}
{{- end -}}

{{/* Labels that never change, also those of the pods. */}}
{{- define "visor-console.selectorLabels" -}}
app.kubernetes.io/name: {{ .Values.nameOverride | default .Chart.Name | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/* The labels by which the console's pods are found, and not the test's. */}}
{{- define "visor-console.podSelector" -}}
{{ include "visor-console.selectorLabels" . }}
app.kubernetes.io/component: console
{{- end -}}

{{- define "visor-console.labels" -}}
{{ include "visor-console.selectorLabels" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- with .Values.extraLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "visor-console.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "visor-console.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- define "visor-console.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest }}{{ $image.repository }}@{{ $image.digest }}{{ else }}{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}{{ end -}}
{{- end -}}

{{/* Whether the volume holds anything: SQLite's file, or the pictures. */}}
{{- define "visor-console.volume" -}}
{{- if not (and .Values.database.secretName .Values.pictures.s3.uri) }}true{{ end -}}
{{- end -}}

{{- define "visor-console.claim" -}}
{{- .Values.persistence.existingClaim | default (include "visor-console.fullname" .) -}}
{{- end -}}

{{/* Whether pods of an old and a new template may stand beside each other: not on one SQLite file, nor on a volume of one node. */}}
{{- define "visor-console.rolling" -}}
{{- if and .Values.database.secretName (or .Values.pictures.s3.uri (include "visor-console.shared" .)) }}true{{ end -}}
{{- end -}}

{{/* Whether pods of several nodes may mount the volume. The chart does not see an existing claim's modes: `accessModes` says them. */}}
{{- define "visor-console.shared" -}}
{{- if has "ReadWriteMany" .Values.persistence.accessModes }}true{{ end -}}
{{- end -}}

{{- define "visor-console.hostnames" -}}
{{- .Values.route.hostnames | default (list (printf "%s-%s.%s" (include "visor-console.fullname" .) .Release.Namespace .Values.route.domain)) | toYaml -}}
{{- end -}}

{{/* Every name under which browsers reach the console: the route's, the Service's, and loopback's for a port-forward. */}}
{{- define "visor-console.allowedHosts" -}}
{{- $name := include "visor-console.fullname" . -}}
{{- $long := printf "%s.%s" $name .Release.Namespace -}}
{{- $hosts := list "localhost" "127.0.0.1" $name $long (printf "%s.svc" $long) (printf "%s.svc.cluster.local" $long) -}}
{{- if .Values.route.enabled -}}
{{- $hosts = concat (include "visor-console.hostnames" . | fromYamlArray) $hosts -}}
{{- end -}}
{{- concat $hosts .Values.allowedHosts | uniq | join "," -}}
{{- end -}}

{{/* VISOR_CONSOLE_SERVERS: the servers as the console reads them, with their tokens' files in place of the Secrets. */}}
{{- define "visor-console.servers" -}}
{{- $servers := list -}}
{{- range $number, $server := .Values.servers -}}
{{- $told := omit $server "token" -}}
{{- if $server.token -}}
{{- $_ := set $told "token_file" (printf "/etc/visor-console/tokens/%d" $number) -}}
{{- end -}}
{{- $servers = append $servers $told -}}
{{- end -}}
{{- toJson $servers -}}
{{- end -}}

{{/* The files below /etc/visor-console, in one volume. As such they follow their Secrets without a restart. */}}
{{- define "visor-console.sources" -}}
- secret:
    name: {{ .Values.keys.secretName }}
    items: [{key: {{ .Values.keys.key | quote }}, path: keys.json}]
{{- with .Values.session }}
{{- if .secretName }}
- secret:
    name: {{ .secretName }}
    items: [{key: {{ .key | quote }}, path: session}]
{{- end }}
{{- end }}
{{- range $number, $server := .Values.servers }}
{{- with $server.token }}
- secret:
    name: {{ .secretName }}
    items: [{key: {{ .key | quote }}, path: tokens/{{ $number }}}]
{{- end }}
{{- end }}
{{- end -}}

{{- define "visor-console.env" -}}
- {name: HOME, value: /tmp}
- {name: VISOR_CONSOLE_FOLDER, value: /var/lib/visor-console}
- {name: VISOR_CONSOLE_KEYS_FILE, value: /etc/visor-console/keys.json}
- name: VISOR_CONSOLE_SERVERS
  value: {{ include "visor-console.servers" . | quote }}
- name: VISOR_CONSOLE_ALLOWED_HOSTS
  value: {{ include "visor-console.allowedHosts" . | quote }}
{{- if .Values.session.secretName }}
- {name: VISOR_CONSOLE_SECRET_FILE, value: /etc/visor-console/session}
{{- end }}
{{- with .Values.database }}
{{- if .secretName }}
- name: VISOR_CONSOLE_DATABASE
  valueFrom:
    secretKeyRef: {name: {{ .secretName }}, key: {{ .key | quote }}}
{{- end }}
{{- end }}
{{- with .Values.links.prometheus }}
- {name: VISOR_CONSOLE_PROMETHEUS, value: {{ . | quote }}}
{{- end }}
{{- with .Values.links.mlflow }}
- {name: VISOR_CONSOLE_MLFLOW, value: {{ . | quote }}}
{{- end }}
{{- with .Values.links.mlflowInside }}
- {name: VISOR_CONSOLE_MLFLOW_INSIDE, value: {{ . | quote }}}
{{- end }}
{{- if .Values.releases }}
- {name: VISOR_CONSOLE_RELEASES, value: /etc/visor-releases}
{{- end }}
- name: VISOR_CONSOLE_AUDIT_SHARE
  value: {{ .Values.reviews.auditShare | quote }}
{{- if not (kindIs "invalid" .Values.reviews.keepDays) }}
- name: VISOR_CONSOLE_KEEP_DAYS
  value: {{ .Values.reviews.keepDays | quote }}
{{- end }}
{{- with .Values.pictures.s3 }}
{{- if .uri }}
- {name: VISOR_CONSOLE_PICTURES, value: {{ .uri | quote }}}
{{- end }}
{{- with .endpoint }}
- {name: AWS_ENDPOINT_URL, value: {{ . | quote }}}
{{- end }}
{{- with .region }}
- {name: AWS_DEFAULT_REGION, value: {{ . | quote }}}
{{- end }}
{{- $secret := .secretName }}
{{- if $secret }}
{{- range list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ . }}
  valueFrom:
    secretKeyRef: {name: {{ $secret }}, key: {{ . }}}
{{- end }}
- name: AWS_SESSION_TOKEN
  valueFrom:
    secretKeyRef: {name: {{ $secret }}, key: AWS_SESSION_TOKEN, optional: true}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What the pod's two containers have in common. */}}
{{- define "visor-console.container" -}}
image: {{ include "visor-console.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
  {{- include "visor-console.env" . | nindent 2 }}
resources: {{- toYaml .Values.resources | nindent 2 }}
securityContext: {{- toYaml .Values.containerSecurityContext | nindent 2 }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  - {name: data, mountPath: /var/lib/visor-console}
  - {name: config, mountPath: /etc/visor-console, readOnly: true}
  {{- if .Values.releases }}
  - {name: releases, mountPath: /etc/visor-releases, readOnly: true}
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* [name, ...]: a selector of these namespaces. */}}
{{- define "visor-console.namespaces" -}}
matchExpressions:
  - {key: kubernetes.io/metadata.name, operator: In, values: {{ toJson . }}}
{{- end -}}

{{/* A quantity of Kubernetes as a number: 500m is 0.5, 1Ki is 1024. */}}
{{- define "visor-console.number" -}}
{{- $quantity := toString . -}}
{{- $unit := regexFind "[A-Za-z]+$" $quantity -}}
{{- $factors := dict "" 1 "m" 0.001 "k" 1e3 "K" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 "Ei" 1152921504606846976 -}}
{{- mulf (trimSuffix $unit $quantity | float64) (index $factors $unit) -}}
{{- end -}}

{{/* A duration, such as 1m30s, in seconds. */}}
{{- define "visor-console.seconds" -}}
{{- $seconds := 0.0 -}}
{{- $units := dict "ms" 0.001 "s" 1 "m" 60 "h" 3600 "d" 86400 "w" 604800 "y" 31536000 -}}
{{- range regexFindAll "[0-9]+[a-z]+" . -1 -}}
{{- $unit := regexFind "[a-z]+$" . -}}
{{- $seconds = addf $seconds (mulf (trimSuffix $unit . | float64) (index $units $unit)) -}}
{{- end -}}
{{- $seconds -}}
{{- end -}}
