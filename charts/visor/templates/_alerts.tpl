{{/* (root, bounds of visor_request_seconds' buckets in seconds): what alerts.yaml's names with a dollar sign stand for. */}}
{{- define "visor.alertParts" -}}
{{- $root := index . 0 -}}
{{- $bounds := index . 1 -}}
{{- with $root.Values -}}
{{- /* How the names of pods end, as in watch/queries.py: of a Deployment, or of a revision in Knative. */}}
{{- range $which, $track := dict "selector" "(-canary)?" "stable" "" "canary" "-canary" }}
{{ $which }}: {{ printf "namespace=%q,pod=~%q" $root.Release.Namespace (printf "%s%s-predictor-([0-9]{5}-dep.*|[^-]+(-[^-]+)?)" (include "visor.fullname" $root) $track) | quote }}
{{- end }}
{{- range $share, $milliseconds := .slo.latencyMs }}
{{- $seconds := divf (toString $milliseconds | float64) 1000 }}
{{- if not (has $seconds $bounds) }}
{{- $all := list }}
{{- range $bounds }}{{ $all = append $all (mulf . 1000 | toString) }}{{ end }}
{{- fail (printf "slo.latencyMs.%s %v is no bound of visor_request_seconds' buckets, which alone are counted; choose one of %s" $share $milliseconds (join ", " $all)) }}
{{- end }}
{{ $share }}: {{ include "visor.bound" $seconds | quote }}
{{- end }}
error_rate: {{ .slo.errorRate | quote }}
min_requests: {{ .alerts.minRequests | quote }}
min_images: {{ .alerts.minImages | quote }}
no_traffic: {{ .alerts.noTraffic | quote }}
decisions_window: {{ .alerts.decisions.window | quote }}
review_share: {{ .alerts.decisions.reviewShare | quote }}
rejected_share: {{ .alerts.decisions.rejectedShare | quote }}
drift_window: {{ .alerts.drift.window | quote }}
drift_min_images: {{ .alerts.drift.minImages | quote }}
least_effect: {{ .alerts.drift.leastEffect | quote }}
{{- end -}}
{{- end -}}

{{/* Seconds as the label `le` writes them: 0.25, 1.0. */}}
{{- define "visor.bound" -}}
{{- $text := toString . -}}
{{ $text }}{{ if not (contains "." $text) }}.0{{ end }}
{{- end -}}

{{/* (text, parts): the text with the parts in place of their names; other names, such as $labels, stay. */}}
{{- define "visor.filled" -}}
{{- $text := index . 0 -}}
{{- range $name, $part := index . 1 -}}
{{- $text = regexReplaceAllLiteral (printf "\\$%s\\b" $name) $text $part -}}
{{- end -}}
{{- $text -}}
{{- end -}}
