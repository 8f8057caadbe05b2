{{/*
Every template begins with `include "visor.prepare" .`, which completes .Values, in place and once for all:

- What is missing gets its default. Values of an older chart (`--reuse-values`) have no keys that are new, and `canary: null`
  takes all of canary away. What is there stays, a `false` or an empty string as well, which `merge` would write over.
- Whole numbers become integers: from a values file they come as floats, and 1000000 would print as 1e+06.

Kubernetes' own objects are left as they are, as a null says something there: `podSecurityContext.runAsUser: null` is no user.
*/}}
{{- define "visor.prepare" -}}
{{- include "visor.complete" (list .Values (.Files.Get "defaults.yaml" | fromYaml)) -}}
{{- end -}}

{{/* (values, defaults) */}}
{{- define "visor.complete" -}}
{{- $values := index . 0 -}}
{{- range $key, $default := index . 1 -}}
{{- $value := index $values $key -}}
{{- $own := has $key (list "resources" "podSecurityContext" "containerSecurityContext") -}}
{{- if kindIs "invalid" $value -}}
{{- $_ := set $values $key (ternary dict $default (hasSuffix "SecurityContext" $key)) -}}
{{- else if and (kindIs "map" $value) (kindIs "map" $default) (not $own) -}}
{{- include "visor.complete" (list $value $default) -}}
{{- else if kindIs "float64" $value -}}
{{- if eq $value (floor $value) -}}
{{- $_ := set $values $key (int64 $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A quantity of Kubernetes as a number: 500m is 0.5, 1Ki is 1024. */}}
{{- define "visor.number" -}}
{{- $quantity := toString . -}}
{{- $unit := regexFind "[A-Za-z]+$" $quantity -}}
{{- $factors := dict "" 1 "m" 0.001 "k" 1e3 "K" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 "Ei" 1152921504606846976 -}}
{{- mulf (trimSuffix $unit $quantity | float64) (index $factors $unit) -}}
{{- end -}}

{{/* A duration, such as 1m30s, in seconds. */}}
{{- define "visor.seconds" -}}
{{- $seconds := 0.0 -}}
{{- $units := dict "ms" 0.001 "s" 1 "m" 60 "h" 3600 "d" 86400 "w" 604800 "y" 31536000 -}}
{{- range regexFindAll "[0-9]+[a-z]+" . -1 -}}
{{- $unit := regexFind "[a-z]+$" . -}}
{{- $seconds = addf $seconds (mulf (trimSuffix $unit . | float64) (index $units $unit)) -}}
{{- end -}}
{{- $seconds -}}
{{- end -}}

{{/* [map, ...]: all their keys as YAML; a later map's value wins. */}}
{{- define "visor.union" -}}
{{- $all := dict -}}
{{- range . -}}
{{- range $key, $value := . -}}
{{- $_ := set $all $key $value -}}
{{- end -}}
{{- end -}}
{{- with $all }}{{ toYaml . }}{{ end -}}
{{- end -}}
