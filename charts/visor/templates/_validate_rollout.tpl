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
{{- if ge (int (index $rollout.steps 0).percent) 100 -}}
{{- fail "canary.rollout.steps has no step below 100 %, so that nothing would be compared; give one, or more" -}}
{{- end -}}
{{- $record := include "visor.rolloutRecord" . | fromJson -}}
{{- if and (eq .Values.mode "Standard") (eq ($record.phase | default "") "promoted") (ne .Values.archive.uri .Values.canary.archive) -}}
{{- fail (printf "the release by evidence has promoted %s, and archive.uri still says %s, which this would bring back; say archive.uri=%s%s and canary.enabled=false, or canary.enabled=false alone to go back" .Values.canary.archive .Values.archive.uri .Values.canary.archive (ternary (printf ", archive.digest=%s" .Values.canary.digest) "" (not (empty .Values.canary.digest)))) -}}
{{- end -}}
{{- $promoting := or (eq ($record.phase | default "") "promoting") (dig "state" "promoting" false (get $record "record.json" | default "{}" | fromJson)) -}}
{{- if and (eq .Values.mode "Standard") $promoting (has ($record.phase | default "") (list "promoting" "paused" "yielded")) (ne .Values.archive.uri .Values.canary.archive) -}}
{{- fail (printf "the release by evidence promotes %s just now, and archive.uri still says %s, which this would bring back; wait for its end, which `visor rollout status` says, or `visor rollout abort` first" .Values.canary.archive .Values.archive.uri) -}}
{{- end -}}
{{- end -}}
{{- end -}}
