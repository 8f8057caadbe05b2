{{/* Numbers by which nothing, or the wrong thing, would be told. */}}
{{- define "visor.validate.watch" -}}
{{- $latency := .Values.slo.latencyMs -}}
{{- range list (list "p50" "p95") (list "p95" "p99") -}}
{{- $lower := index $latency (index . 0) -}}
{{- $upper := index $latency (index . 1) -}}
{{- if gt (toString $lower | float64) (toString $upper | float64) -}}
{{- fail (printf "slo.latencyMs.%s %v is above slo.latencyMs.%s %v, which promises more already" (index . 0) $lower (index . 1) $upper) -}}
{{- end -}}
{{- end -}}
{{- if .Values.alerts.enabled -}}
{{- if gt (toString .Values.slo.errorRate | float64) 0.069 -}}
{{- fail (printf "slo.errorRate %v leaves alerts nothing to fire at: the fastest one waits for 14.4 times as many failures, and above 0.069 those are more than all requests" .Values.slo.errorRate) -}}
{{- end -}}
{{- with .Values.alerts -}}
{{- range $name, $window := dict "noTraffic" .noTraffic "decisions.window" .decisions.window "drift.window" .drift.window -}}
{{- $seconds := include "visor.seconds" $window | float64 -}}
{{- if or (lt $seconds 300.0) (gt $seconds 31536000.0) -}}
{{- fail (printf "alerts.%s is %s; choose 5m to 1y, as growth is seen over some scrapes alone" $name $window) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with .Values.metrics.podMonitor -}}
{{- if and .enabled (gt (include "visor.seconds" .interval | float64) 60.0) -}}
{{- fail (printf "metrics.podMonitor.interval %s is above 1m, and alerts look at 5m, which has to hold some scrapes" .interval) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
