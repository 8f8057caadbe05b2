{{- define "visor.fullname" -}}
{{- .Values.fullnameOverride | default .Release.Name -}}
{{- end -}}

{{- define "visor.canaryName" -}}
{{- include "visor.fullname" . }}-canary
{{- end -}}

{{/* Labels that never change: they reach the pods, where a change would restart them. */}}
{{- define "visor.selectorLabels" -}}
app.kubernetes.io/name: {{ .Values.nameOverride | default .Chart.Name | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/* (root, track): the labels of its pods, in Standard mode. */}}
{{- define "visor.trackLabels" -}}
{{- include "visor.selectorLabels" (index . 0) }}
component: predictor
visor.io/track: {{ index . 1 }}
{{- end -}}

{{/* The chart's own come last, so that extraLabels moves no object out of a selector's sight. */}}
{{- define "visor.labels" -}}
{{- $selectors := include "visor.selectorLabels" . | fromYaml -}}
{{- $chart := printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") -}}
{{- $about := dict "app.kubernetes.io/managed-by" .Release.Service "app.kubernetes.io/version" .Chart.AppVersion "helm.sh/chart" $chart -}}
{{- include "visor.union" (list .Values.extraLabels $selectors $about) -}}
{{- end -}}

{{- define "visor.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "visor.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{/* (image values, root): repository with digest or tag. */}}
{{- define "visor.image" -}}
{{- $image := index . 0 -}}
{{- $root := index . 1 -}}
{{- $repository := $image.repository -}}
{{- with $root.Values.global.imageRegistry -}}
{{- /* A first part with a dot or a port is a registry, by Docker's rule. */ -}}
{{- $repository = printf "%s/%s" . (regexReplaceAll "^(localhost|[^/]*[.:][^/]*)/" $repository "") -}}
{{- end -}}
{{- if $image.digest }}{{ $repository }}@{{ $image.digest }}{{ else }}{{ $repository }}:{{ $image.tag | default $root.Chart.AppVersion }}{{ end -}}
{{- end -}}

{{/* imagePullSecrets and the charts' common ones, which other charts write as names alone; each once. */}}
{{- define "visor.imagePullSecrets" -}}
{{- $secrets := list -}}
{{- range concat .Values.imagePullSecrets .Values.global.imagePullSecrets -}}
{{- $secrets = append $secrets (ternary (dict "name" .) . (kindIs "string" .)) -}}
{{- end -}}
{{- with $secrets | uniq }}{{ toYaml . }}{{ end -}}
{{- end -}}

{{/* both, rest or grpc. */}}
{{- define "visor.protocol" -}}
{{- .Values.protocol | default (ternary "rest" "both" (eq .Values.mode "Knative")) -}}
{{- end -}}

{{- define "visor.rest" -}}
{{- if ne (include "visor.protocol" .) "grpc" }}true{{ end -}}
{{- end -}}

{{- define "visor.grpc" -}}
{{- if ne (include "visor.protocol" .) "rest" }}true{{ end -}}
{{- end -}}

{{/* Whether the chart's own routes are rendered. */}}
{{- define "visor.routes" -}}
{{- if kindIs "invalid" .Values.route.enabled -}}
{{- if eq .Values.mode "Standard" }}true{{ end -}}
{{- else if .Values.route.enabled }}true{{ end -}}
{{- end -}}

{{- define "visor.hostnames" -}}
{{- .Values.route.hostnames | default (list (printf "%s-%s.%s" (include "visor.fullname" .) .Release.Namespace .Values.route.domain)) | toYaml -}}
{{- end -}}

{{/* The Service's port of gRPC; its first one has number 80. */}}
{{- define "visor.grpcPort" -}}
{{- ternary 8081 80 (not (empty (include "visor.rest" .))) -}}
{{- end -}}

{{/* Whether gRPC has a GRPCRoute on hosts of its own; without one the HTTPRoute carries it. */}}
{{- define "visor.grpcRoute" -}}
{{- if and (include "visor.routes" .) (include "visor.grpc" .) .Values.route.grpcHostnames }}true{{ end -}}
{{- end -}}

{{/* Whether there is an HTTPRoute. */}}
{{- define "visor.httpRoute" -}}
{{- if and (include "visor.routes" .) (or (include "visor.rest" .) (not (include "visor.grpcRoute" .))) }}true{{ end -}}
{{- end -}}

{{/* A host that the HTTPRoute, or where there is none the GRPCRoute, takes. */}}
{{- define "visor.host" -}}
{{- include "visor.hostnames" . | fromYamlArray | first | replace "*" "any" -}}
{{- end -}}

{{- define "visor.grpcHost" -}}
{{- if .Values.route.grpcHostnames }}{{ first .Values.route.grpcHostnames | replace "*" "any" }}{{ else }}{{ include "visor.host" . }}{{ end -}}
{{- end -}}

{{/* The header that chooses the canary, where there is one. With --reuse-values an older release has no value. */}}
{{- define "visor.canaryHeader" -}}
{{- if include "visor.hasCanary" . }}{{ ternary .Values.route.canaryHeader "x-visor-canary" (hasKey .Values.route "canaryHeader") }}{{ end -}}
{{- end -}}

{{/* The fields of each of the routes' rules that are the same for all of them. */}}
{{/*
The header by which a canary knows what a shadow asks, so that neither gates nor audits count it, comes from no client. It is
one more that the values' own RequestHeaderModifier removes, as the Gateway API takes one of them in a rule.
*/}}
{{- define "visor.filters" -}}
{{- $removed := false -}}
{{- $filters := list -}}
{{- range .Values.route.filters -}}
{{- $filter := deepCopy . -}}
{{- if and (eq .type "RequestHeaderModifier") (not $removed) -}}
{{- $modifier := .requestHeaderModifier | default dict -}}
{{- $_ := set $filter "requestHeaderModifier" (merge (dict "remove" (append ($modifier.remove | default list) "x-visor-shadow" | uniq)) $modifier) -}}
{{- $removed = true -}}
{{- end -}}
{{- $filters = append $filters $filter -}}
{{- end -}}
{{- if not $removed -}}
{{- $filters = append $filters (dict "type" "RequestHeaderModifier" "requestHeaderModifier" (dict "remove" (list "x-visor-shadow"))) -}}
{{- end -}}
filters: {{- toYaml $filters | nindent 2 }}
{{- end -}}

{{- define "visor.timeouts" -}}
{{- if kindIs "invalid" .Values.route.timeouts -}}
timeouts: {request: {{ int64 .Values.timeoutSeconds }}s}
{{- else if .Values.route.timeouts -}}
timeouts: {{- toYaml .Values.route.timeouts | nindent 2 }}
{{- end -}}
{{- end -}}

{{/* Not the HTTPRoute's name: Contour keeps one status for both of them, and one would seem never to be accepted. */}}
{{- define "visor.grpcRouteName" -}}
{{- include "visor.fullname" . }}-grpc
{{- end -}}

{{- define "visor.publicKeyConfigMap" -}}
{{- .Values.archive.publicKeyConfigMap.name | default (printf "%s-public-key" (include "visor.fullname" .)) -}}
{{- end -}}

{{/* The volume of the edge's tokens, where it asks for one; mounted as a folder, as a file alone would not follow the Secret. */}}
{{- define "visor.tokenVolume" -}}
{{- with .Values.edge.token }}
{{- if .secretName -}}
- name: tokens
  secret:
    secretName: {{ .secretName }}
    items: [{key: {{ .key }}, path: tokens}]
{{- end }}
{{- end }}
{{- end -}}

{{/* [name, ...]: a selector of these namespaces. */}}
{{- define "visor.namespaces" -}}
matchExpressions:
  - {key: kubernetes.io/metadata.name, operator: In, values: {{ toJson . }}}
{{- end -}}

{{/* Whether a canary of its own stands beside the stable InferenceService. */}}
{{- define "visor.hasCanary" -}}
{{- if and .Values.canary.enabled (eq .Values.mode "Standard") }}true{{ end -}}
{{- end -}}

{{/* Whether the stable pods ask the canary about some of what they have answered. */}}
{{- define "visor.shadow" -}}
{{- if and (include "visor.hasCanary" .) (gt (float64 .Values.canary.shadowPercent) 0.0) }}true{{ end -}}
{{- end -}}

{{- define "visor.shadowName" -}}
{{- include "visor.canaryName" . }}-shadow
{{- end -}}

{{/* Whether the canary's weight waits for its readiness; templates/canary-gate.yaml then sets it. */}}
{{- define "visor.gated" -}}
{{- if and (include "visor.hasCanary" .) (not .Values.canary.rollout.enabled) .Values.canary.waitForReady (gt (int .Values.canary.trafficPercent) 0) }}true{{ end -}}
{{- end -}}

{{/*
Whether all pods of the canary in the cluster serve canary.archive. Not by the InferenceService's condition Ready: that
stays true while an old pod is left and the new archive fails.
*/}}
{{- define "visor.canaryReady" -}}
{{- $deployment := lookup "apps/v1" "Deployment" .Release.Namespace (printf "%s-predictor" (include "visor.canaryName" .)) -}}
{{- if $deployment -}}
{{- $uri := dig "spec" "template" "metadata" "annotations" "internal.serving.kserve.io/storage-initializer-sourceuri" "" $deployment -}}
{{- $wanted := dig "spec" "replicas" 0 $deployment | int -}}
{{- $observed := eq (dig "status" "observedGeneration" 0 $deployment | int) (dig "metadata" "generation" -1 $deployment | int) -}}
{{- $replicas := dig "status" "replicas" 0 $deployment | int -}}
{{- $updated := dig "status" "updatedReplicas" 0 $deployment | int -}}
{{- $available := dig "status" "availableReplicas" 0 $deployment | int -}}
{{- if and (eq $uri .Values.canary.archive) $observed (gt $available 0) (eq $available $wanted) (eq $updated $wanted) (eq $replicas $wanted) }}true{{ end -}}
{{- end -}}
{{- end -}}

{{/* Whether a Job releases the canary by evidence: templates/rollout.yaml. */}}
{{- define "visor.rollout" -}}
{{- if and .Values.canary.enabled .Values.canary.rollout.enabled }}true{{ end -}}
{{- end -}}

{{/* What ConfigMap NAME-rollout says of the release of this canary, as JSON; {} where it has none, or of another one. */}}
{{- define "visor.rolloutRecord" -}}
{{- $found := lookup "v1" "ConfigMap" .Release.Namespace (printf "%s-rollout" (include "visor.fullname" .)) -}}
{{- $data := $found.data | default dict -}}
{{- ternary $data dict (eq ($data.canary | default "") .Values.canary.archive) | toJson -}}
{{- end -}}

{{/* The canary's share, in percent, that the Job has come to: an upgrade under way leaves it. */}}
{{- define "visor.rolloutPercent" -}}
{{- include "visor.rolloutRecord" . | fromJson | dig "percent" "0" -}}
{{- end -}}

{{/* The canary's weight in the routes, in percent. */}}
{{- define "visor.canaryWeight" -}}
{{- if include "visor.rollout" . }}{{ include "visor.rolloutPercent" . }}{{ else if and (include "visor.gated" .) (not (include "visor.canaryReady" .)) }}0{{ else }}{{ .Values.canary.trafficPercent }}{{ end -}}
{{- end -}}

{{/*
(root, backend port): the weighted backends, stable first. Written out with the API's defaults, here and in routes.yaml: the
rules are one field to the API server, and an upgrade that says what is there already is then no conflict with who wrote it.
*/}}
{{- define "visor.backends" -}}
{{- $root := index . 0 -}}
{{- $port := index . 1 -}}
{{- $canary := include "visor.hasCanary" $root -}}
{{- $weight := ternary (include "visor.canaryWeight" $root | int) 0 (not (empty $canary)) -}}
- {group: "", kind: Service, name: {{ include "visor.fullname" $root }}-predictor, port: {{ $port }}, weight: {{ sub 100 $weight }}}
{{- if $canary }}
- {group: "", kind: Service, name: {{ include "visor.canaryName" $root }}-predictor, port: {{ $port }}, weight: {{ $weight }}}
{{- end }}
{{- end -}}

{{- define "visor.parentRefs" -}}
- name: {{ .Values.route.gateway.name }}
  namespace: {{ .Values.route.gateway.namespace }}
  {{- with .Values.route.gateway.sectionName }}
  sectionName: {{ . }}
  {{- end }}
  {{- with .Values.route.gateway.port }}
  port: {{ int64 . }}
  {{- end }}
{{- end -}}

{{/* The two tracks, each with what scales it: [{name, track, archive, digest, replicas}], as JSON. */}}
{{- define "visor.tracks" -}}
{{- $tracks := list (dict "name" (include "visor.fullname" .) "track" "stable" "archive" .Values.archive.uri "digest" .Values.archive.digest "replicas" .Values.replicas) -}}
{{- if include "visor.hasCanary" . -}}
{{- $tracks = append $tracks (dict "name" (include "visor.canaryName" .) "track" "canary" "archive" .Values.canary.archive "digest" .Values.canary.digest "replicas" .Values.canary.replicas) -}}
{{- end -}}
{{- toJson $tracks -}}
{{- end -}}

{{/* What podAnnotations says wins. */}}
{{- define "visor.podAnnotations" -}}
{{- $annotations := dict -}}
{{- with .Values.archive.publicKey -}}
{{- $_ := set $annotations "visor.io/public-key-digest" (sha256sum .) -}}
{{- end -}}
{{- /* Beside a PodMonitor they would have pods scraped twice, and everything counted twice. */ -}}
{{- if and .Values.metrics.annotations.enabled (not .Values.metrics.podMonitor.enabled) -}}
{{- $annotations = merge $annotations (dict "prometheus.io/scrape" "true" "prometheus.io/port" "8080" "prometheus.io/path" "/metrics") -}}
{{- end -}}
{{- if eq .Values.mode "Knative" -}}
{{- with .Values.knative -}}
{{- $_ := set $annotations "autoscaling.knative.dev/target-utilization-percentage" (toString .targetUtilizationPercentage) -}}
{{- $_ := set $annotations "autoscaling.knative.dev/window" .window -}}
{{- $_ := set $annotations "autoscaling.knative.dev/scale-down-delay" .scaleDownDelay -}}
{{- $_ := set $annotations "autoscaling.knative.dev/scale-to-zero-pod-retention-period" .scaleToZeroRetention -}}
{{- end -}}
{{- end -}}
{{- include "visor.union" (list $annotations .Values.podAnnotations) -}}
{{- end -}}

{{/* What the gate may do is granted for as long as it runs: Helm makes these before the Job, and removes them after it. */}}
{{- define "visor.gateGrant" -}}
helm.sh/hook: post-install,post-upgrade,post-rollback
helm.sh/hook-weight: "-1"
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}
