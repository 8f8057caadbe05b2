{{/* What the schema cannot say: settings that contradict each other end with a sentence. */}}
{{- define "visor.validate" -}}
{{- include "visor.validate.cluster" . -}}
{{- include "visor.validate.labels" . -}}
{{- include "visor.validate.contexts" . -}}
{{- include "visor.validate.resources" . -}}
{{- include "visor.validate.volumes" . -}}
{{- include "visor.validate.times" . -}}
{{- include "visor.validate.watch" . -}}
{{- include "visor.validate.rollout" . -}}
{{- if not (eq .Values.mode "Knative") -}}
{{- include "visor.validate.standard" . -}}
{{- end -}}
{{- $knative := eq .Values.mode "Knative" -}}
{{- $name := include "visor.fullname" . -}}
{{- $canary := .Values.canary -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$" $name) -}}
{{- fail (printf "the name %q must begin with a letter, hold only a-z, 0-9 and -, and have at most 40 characters; set fullnameOverride" $name) -}}
{{- end -}}
{{- if hasSuffix "-canary" $name -}}
{{- fail (printf "the name %q ends in -canary, as the canary's objects and pods of a release %q do; set fullnameOverride" $name (trimSuffix "-canary" $name)) -}}
{{- end -}}
{{- if not .Values.archive.uri -}}
{{- fail "archive.uri is required: where NAME.mar and NAME.mar.sig are, such as pvc://models/roofs/1" -}}
{{- end -}}
{{- if and (not .Values.archive.publicKey) (not .Values.archive.publicKeyConfigMap.name) -}}
{{- fail "a public key is required, as no archive is served unverified: --set-file archive.publicKey=visor.pub, or archive.publicKeyConfigMap.name" -}}
{{- end -}}
{{- if and .Values.archive.publicKey .Values.archive.publicKeyConfigMap.name -}}
{{- fail "archive.publicKey and archive.publicKeyConfigMap.name are both set; keep one" -}}
{{- end -}}
{{- if ge (int .Values.archive.waitSeconds) (int .Values.probes.startupTimeoutSeconds) -}}
{{- fail (printf "archive.waitSeconds %v must be below probes.startupTimeoutSeconds %v, or no pod comes to say that the archive is missing" .Values.archive.waitSeconds .Values.probes.startupTimeoutSeconds) -}}
{{- end -}}
{{- if and $canary.enabled (not $canary.archive) -}}
{{- fail "canary.enabled needs canary.archive, the archive that the canary serves" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) -}}
{{- fail (printf "autoscaling.minReplicas %v is above autoscaling.maxReplicas %v" .Values.autoscaling.minReplicas .Values.autoscaling.maxReplicas) -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled .Values.keda.enabled -}}
{{- fail "autoscaling.enabled and keda.enabled are both set, and two scalers of one Deployment fight; keep one" -}}
{{- end -}}
{{- if .Values.keda.enabled -}}
{{- if not .Values.keda.serverAddress -}}
{{- fail "keda.enabled needs keda.serverAddress, the Prometheus that answers keda.query" -}}
{{- end -}}
{{- if gt (int .Values.keda.minReplicas) (int .Values.keda.maxReplicas) -}}
{{- fail (printf "keda.minReplicas %v is above keda.maxReplicas %v" .Values.keda.minReplicas .Values.keda.maxReplicas) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled (eq .Values.networkPolicy.egress "dns") (not .Values.networkPolicy.extraEgress) -}}
{{- range list .Values.archive.uri (ternary $canary.archive "" $canary.enabled) -}}
{{- if regexMatch "^(s3|gs|https?)://" . -}}
{{- fail (printf "networkPolicy.egress dns cuts the pods from their archive at %s; say the way in networkPolicy.extraEgress" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $knative -}}
{{- if and $canary.enabled (gt (float64 $canary.shadowPercent) 0.0) -}}
{{- fail "canary.shadowPercent is of Standard mode: in Knative the canary is a revision of the same pods, which could not tell that they are not to ask themselves; set it to 0" -}}
{{- end -}}
{{- if eq (include "visor.protocol" .) "both" -}}
{{- fail "protocol both needs two ports and a pod of Knative has one; choose rest or grpc" -}}
{{- end -}}
{{- if or .Values.autoscaling.enabled .Values.autoscaling.behavior -}}
{{- fail "autoscaling.enabled and autoscaling.behavior are of the HorizontalPodAutoscaler, which Knative mode does not use; see knative.metric, target, window and scaleDownDelay" -}}
{{- end -}}
{{- if .Values.keda.enabled -}}
{{- fail "keda.enabled is of Standard mode; Knative scales by knative.metric and knative.target" -}}
{{- end -}}
{{- if .Values.podDisruptionBudget.enabled -}}
{{- fail "podDisruptionBudget.enabled is of Standard mode; Knative's pods come and go with the load" -}}
{{- end -}}
{{- if include "visor.routes" . -}}
{{- fail "route.enabled is of Standard mode; Knative makes the routes itself" -}}
{{- end -}}
{{- if ne (int .Values.replicas) 1 -}}
{{- fail "replicas is of Standard mode; in Knative knative.minScale and knative.maxScale bound the pods" -}}
{{- end -}}
{{- if and .Values.knative.maxScale (gt (int .Values.knative.minScale) (int .Values.knative.maxScale)) -}}
{{- fail (printf "knative.minScale %v is above knative.maxScale %v" .Values.knative.minScale .Values.knative.maxScale) -}}
{{- end -}}
{{- if and $canary.enabled .Release.IsInstall -}}
{{- fail "in Knative mode the canary is a second revision, and the first install has none to be beside; install first, then upgrade with canary.enabled" -}}
{{- end -}}
{{- else -}}
{{- range $grpc := ternary .Values.route.grpcHostnames list (not (empty (include "visor.routes" .))) -}}
{{- range $host := include "visor.hostnames" $ | fromYamlArray -}}
{{- if or (eq $grpc $host) (and (hasPrefix "*." $grpc) (hasSuffix (trimPrefix "*" $grpc) $host)) (and (hasPrefix "*." $host) (hasSuffix (trimPrefix "*" $host) $grpc)) -}}
{{- fail (printf "route.grpcHostnames %s meets the HTTPRoute's %s, and many gateways give a host to one kind of route alone; leave it empty, as the HTTPRoute carries gRPC too, or name other hosts" $grpc $host) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $canary.enabled (not (include "visor.routes" .)) -}}
{{- fail "canary.enabled needs the chart's routes, which share out the requests; do not set route.enabled to false" -}}
{{- end -}}
{{- if and (lt (int .Values.terminationGracePeriodSeconds) (add (int .Values.drainSeconds) 15 | int)) -}}
{{- fail (printf "terminationGracePeriodSeconds %v must be at least drainSeconds %v and 15 more, to finish requests in" .Values.terminationGracePeriodSeconds .Values.drainSeconds) -}}
{{- end -}}
{{- end -}}
{{- end -}}
