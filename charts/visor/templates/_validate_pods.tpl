{{/* What would install, and then make no pod or select none: that, too, ends with a sentence. */}}

{{/*
Kinds that the cluster lacks. helm knows Kubernetes' own groups without a cluster, all but apiregistration.k8s.io: where that
is known, the kinds are those of a cluster.
*/}}
{{- define "visor.validate.cluster" -}}
{{- if and .Values.capabilities.check (.Capabilities.APIVersions.Has "apiregistration.k8s.io/v1") -}}
{{- $needed := list (list true "serving.kserve.io/v1beta1/InferenceService" "KServe 0.20") -}}
{{- $needed = append $needed (list (include "visor.routes" .) "gateway.networking.k8s.io/v1/HTTPRoute" "the Gateway API, or set route.enabled to false") -}}
{{- $needed = append $needed (list (eq .Values.mode "Knative") "serving.knative.dev/v1/Service" "Knative Serving") -}}
{{- $needed = append $needed (list .Values.keda.enabled "keda.sh/v1alpha1/ScaledObject" "KEDA") -}}
{{- $needed = append $needed (list .Values.metrics.podMonitor.enabled "monitoring.coreos.com/v1/PodMonitor" "the Prometheus operator") -}}
{{- $needed = append $needed (list .Values.alerts.enabled "monitoring.coreos.com/v1/PrometheusRule" "the Prometheus operator") -}}
{{- range $needed -}}
{{- if and (index . 0) (not ($.Capabilities.APIVersions.Has (index . 1))) -}}
{{- fail (printf "the cluster has no %s; install %s (capabilities.check false skips this question)" (index . 1) (index . 2)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Not in the schema: helm names another value where it speaks of a key. */}}
{{- define "visor.validate.labels" -}}
{{- $selecting := "^(app|app\\.kubernetes\\.io/(name|instance|component|managed-by|version)|helm\\.sh/chart|component|pod-template-hash|visor\\.io/.*|(.*\\.)?(kserve\\.io|knative\\.dev)/.*)$" -}}
{{- range $where := list "extraLabels" "podLabels" -}}
{{- range $key, $_ := index $.Values $where -}}
{{- if regexMatch $selecting $key -}}
{{- fail (printf "%s may not set %s: the chart, KServe or Knative finds pods by it, and what selects them would select none" $where $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $key, $_ := .Values.podAnnotations -}}
{{- if regexMatch "^(visor\\.io/public-key-digest|internal\\.serving\\.kserve\\.io/.*|serving\\.kserve\\.io/(autoscalerClass|deploymentMode))$" $key -}}
{{- fail (printf "podAnnotations may not set %s, which other values do" $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "visor.validate.contexts" -}}
{{- $pod := .Values.podSecurityContext -}}
{{- $container := .Values.containerSecurityContext -}}
{{- range $where, $context := dict "podSecurityContext" $pod "containerSecurityContext" (include "visor.union" (list $pod $container) | fromYaml) -}}
{{- if and $context.runAsNonRoot (eq (toString $context.runAsUser) "0") -}}
{{- fail (printf "%s has runAsUser 0, which is root, and runAsNonRoot; the kubelet starts no such container" $where) -}}
{{- end -}}
{{- end -}}
{{- if eq (toString $container.allowPrivilegeEscalation) "false" -}}
{{- if or $container.privileged (has "SYS_ADMIN" (dig "capabilities" "add" list $container)) -}}
{{- fail "containerSecurityContext has privileged or SYS_ADMIN, which imply allowPrivilegeEscalation; set that to true, too" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "visor.validate.resources" -}}
{{- $serving := .Values.resources.serving | default dict -}}
{{- if and .Values.autoscaling.enabled (not (dig "requests" "cpu" "" $serving)) (not (dig "limits" "cpu" "" $serving)) -}}
{{- fail "autoscaling.enabled counts in percent of resources.serving.requests.cpu, which is not set" -}}
{{- end -}}
{{- range $container := list "serving" "transformer" -}}
{{- $resources := index $.Values.resources $container | default dict -}}
{{- $limits := $resources.limits | default dict -}}
{{- range $name, $request := $resources.requests -}}
{{- $limit := index $limits $name -}}
{{- if not (kindIs "invalid" $limit) -}}
{{- if gt (include "visor.number" $request | float64) (include "visor.number" $limit | float64) -}}
{{- fail (printf "resources.%s requests %v of %s, which is above its limit of %v" $container $request $name $limit) -}}
{{- end -}}
{{- end -}}
{{- if and (contains "/" $name) (ne (toString $request) (toString $limit)) -}}
{{- fail (printf "resources.%s requests %v of %s, which needs a limit of the same" $container $request $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Names and paths that are taken, and mounts of no volume. */}}
{{- define "visor.validate.volumes" -}}
{{- $volumes := list "work" "serving-tmp" "transformer-tmp" "public-key" "shadow" "tokens" "kserve-pvc-source" "kserve-provision-location" -}}
{{- range .Values.extraVolumes -}}
{{- if has .name $volumes -}}
{{- fail (printf "extraVolumes has a second volume %s; choose another name" .name) -}}
{{- end -}}
{{- $volumes = append $volumes .name -}}
{{- end -}}
{{- range $container, $mounts := .Values.extraVolumeMounts -}}
{{- $paths := list "/run/visor" "/tmp" "/etc/visor" "/etc/visor-shadow" "/etc/visor-tokens" "/mnt/models" -}}
{{- range $mounts -}}
{{- if not (has .name $volumes) -}}
{{- fail (printf "extraVolumeMounts.%s mounts %s, and extraVolumes has no volume of that name" $container .name) -}}
{{- end -}}
{{- if has (trimSuffix "/" .mountPath) $paths -}}
{{- fail (printf "extraVolumeMounts.%s mounts a second volume at %s" $container .mountPath) -}}
{{- end -}}
{{- $paths = append $paths (trimSuffix "/" .mountPath) -}}
{{- end -}}
{{- end -}}
{{- $containers := list "kserve-container" "transformer-container" "storage-initializer" "queue-proxy" -}}
{{- range concat .Values.initContainers .Values.extraContainers -}}
{{- if has .name $containers -}}
{{- fail (printf "extraContainers and initContainers have a second container %s; choose another name" .name) -}}
{{- end -}}
{{- $containers = append $containers .name -}}
{{- end -}}
{{- end -}}

{{- define "visor.validate.times" -}}
{{- if eq .Values.mode "Knative" -}}
{{- $window := include "visor.seconds" .Values.knative.window | float64 -}}
{{- if or (lt $window 6.0) (gt $window 3600.0) -}}
{{- fail (printf "knative.window is %s, and Knative takes 6s to 1h" .Values.knative.window) -}}
{{- end -}}
{{- if gt (include "visor.seconds" .Values.knative.scaleDownDelay | float64) 3600.0 -}}
{{- fail (printf "knative.scaleDownDelay is %s, and Knative takes 1h at most" .Values.knative.scaleDownDelay) -}}
{{- end -}}
{{- else if gt (int64 .Values.timeoutSeconds) (int64 .Values.terminationGracePeriodSeconds) -}}
{{- fail (printf "a request may take timeoutSeconds %v, and a pod that ends cuts it after terminationGracePeriodSeconds %v; raise that, to drainSeconds and 10 more than timeoutSeconds for every request to be finished" .Values.timeoutSeconds .Values.terminationGracePeriodSeconds) -}}
{{- end -}}
{{- with .Values.metrics.podMonitor -}}
{{- if gt (include "visor.seconds" .scrapeTimeout | float64) (include "visor.seconds" .interval | float64) -}}
{{- fail (printf "metrics.podMonitor.scrapeTimeout %s is above its interval %s, and Prometheus takes no such target" .scrapeTimeout .interval) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "visor.validate.standard" -}}
{{- if and (regexMatch "^0+%?$" (toString .Values.rollout.maxSurge)) (regexMatch "^0+%?$" (toString .Values.rollout.maxUnavailable)) -}}
{{- fail "rollout.maxSurge and rollout.maxUnavailable are both 0, and no pod could ever be replaced; raise one" -}}
{{- end -}}
{{- if and (include "visor.routes" .) (not (and .Values.route.gateway.name .Values.route.gateway.namespace)) -}}
{{- fail "route.gateway.name and route.gateway.namespace say which Gateway the routes attach to; set both" -}}
{{- end -}}
{{- if and (include "visor.routes" .) (not .Values.route.hostnames) -}}
{{- $label := printf "%s-%s" (include "visor.fullname" .) .Release.Namespace -}}
{{- if gt (len $label) 63 -}}
{{- fail (printf "the host %s.%s begins with a label of %d characters, and DNS allows 63; set route.hostnames or a shorter fullnameOverride" $label .Values.route.domain (len $label)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
