{{/* A release by evidence that could not be begun, and values that would undo one. */}}
{{- define "visor.validate.rollout" -}}
{{- if include "visor.rollout" . -}}
{{- $rollout := .Values.canary.rollout -}}
{{- if not $rollout.prometheus -}}
{{- fail "canary.rollout.prometheus is required with canary.rollout.enabled: the Prometheus that scrapes the release's pods" -}}
{{- end -}}
{{- $before := 0 -}}
{{- range $rollout.steps -}}
{{- if le (int .percent) $before -}}
{{- fail (printf "canary.rollout.steps goes from %d to %d %%; let each step have more than the one before" $before (int .percent)) -}}
{{- end -}}
{{- $before = int .percent -}}
{{- end -}}
{{- $record := include "visor.rolloutRecord" . | fromJson -}}
{{- if and (eq .Values.mode "Standard") (eq ($record.phase | default "") "promoted") (ne .Values.archive.uri .Values.canary.archive) -}}
{{- fail (printf "the release by evidence has promoted %s, and archive.uri still says %s, which this would bring back; say archive.uri=%s%s and canary.enabled=false, or canary.enabled=false alone to go back" .Values.canary.archive .Values.archive.uri .Values.canary.archive (ternary (printf ", archive.digest=%s" .Values.canary.digest) "" (not (empty .Values.canary.digest)))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
